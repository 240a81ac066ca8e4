//! Clocks that differ: requests are signed with the time, and nodes take those of the last and next 600 seconds.

use super::report::{Check, Report};
use crate::clock;

/// Half of the window of signatures: the other half is for the way and for drift.
const FAR: u64 = 300;
/// More than this is no work of the network.
const OFF: u64 = 30;

/// Judges another's clock, which is so many seconds ahead of ours.
pub(super) fn judge(whose: &str, ahead: i64, report: &mut Report) {
    let by = ahead.unsigned_abs();
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("the clock of {whose} is {by} s {way} this machine's");
    const SYNC: &str = "set the clock that is wrong, and keep it so: `timedatectl set-ntp true`";
    match by {
        0..=OFF => report.ok(Check::Clock, &format!("{whose} and this machine agree on the time")),
        _ if by <= FAR => report.hint(Check::Clock, &text, SYNC),
        _ => {
            let text = format!("{text}; signatures older or newer than 600 s are refused");
            report.bad(Check::Clock, &text, SYNC);
        }
    }
}

/// By how many seconds a `Date` header is ahead of our clock. `None`: it is no date.
pub(super) fn ahead(date: &str) -> Option<i64> {
    i64::try_from(clock::seconds()).ok().and_then(|now| Some(seconds(date)? - now))
}

/// Seconds since 1970, of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn seconds(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_once(", ")?.1.split([' ', ':']).collect();
    let [day, month, year, hours, minutes, seconds, "GMT"] = words[..] else { return None };
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| (0..=9999).contains(number));
    let month = MONTHS.iter().position(|name| *name == month)? as i64;
    // Years begin in March, so that the leap day is the last.
    let (year, month) = if month < 2 { (number(year)? - 1, month + 10) } else { (number(year)?, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + number(day)? - 1 - 719_468;
    Some(((days * 24 + number(hours)?) * 60 + number(minutes)?) * 60 + number(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let check = |date: &str, expected: Option<i64>| assert_eq!(seconds(date), expected, "{date}");
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000));
        check("Wed, 31 Dec 2025 23:59:59 GMT", Some(1_767_225_599));
        for wrong in ["", "now", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov"] {
            check(wrong, None);
        }
    }
}
