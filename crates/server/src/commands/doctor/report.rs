//! What was found, told as it is found: a line each, or a JSON object each.

use serde::Serialize;

use super::super::{Failure, print};

/// The subject of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    Laravel,
    Redis,
    Rights,
    Prefix,
    Clock,
    Auth,
    Node,
    Public,
    Files,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Worth a look, and no fault.
    Note,
    Bad,
    /// Not looked at, because of another finding.
    Skip,
}

#[derive(Serialize)]
struct Finding<'a> {
    check: Check,
    verdict: Verdict,
    text: &'a str,
    /// The line to change. Only where there is one.
    change: Option<&'a str>,
}

impl Finding<'_> {
    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Note => "note",
            Verdict::Bad => "BAD ",
            Verdict::Skip => "skip",
        };
        let name = format!("{:?}", self.check).to_lowercase();
        let change = self.change.map_or(String::new(), |change| format!("  change: {change}\n"));
        format!("{verdict}  {name}: {}\n{change}", self.text)
    }
}

pub(super) struct Report {
    is_json: bool,
    looked: usize,
    bad: usize,
    /// Why nothing more can be told.
    failure: Option<Failure>,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, looked: 0, bad: 0, failure: None }
    }

    pub(super) fn ok(&mut self, check: Check, text: &str) {
        self.tell(Finding { check, verdict: Verdict::Ok, text, change: None });
    }

    pub(super) fn note(&mut self, check: Check, text: &str) {
        self.tell(Finding { check, verdict: Verdict::Note, text, change: None });
    }

    /// A note that names the line which may have to change.
    pub(super) fn hint(&mut self, check: Check, text: &str, change: &str) {
        self.tell(Finding { check, verdict: Verdict::Note, text, change: Some(change) });
    }

    pub(super) fn bad(&mut self, check: Check, text: &str, change: &str) {
        self.tell(Finding { check, verdict: Verdict::Bad, text, change: Some(change) });
    }

    pub(super) fn skip(&mut self, check: Check, text: &str) {
        self.tell(Finding { check, verdict: Verdict::Skip, text, change: None });
    }

    fn tell(&mut self, finding: Finding<'_>) {
        self.looked += usize::from(finding.verdict != Verdict::Skip);
        self.bad += usize::from(finding.verdict == Verdict::Bad);
        let line = match self.is_json {
            // Text and names always can be written.
            true => serde_json::to_string(&finding).unwrap_or_default() + "\n",
            false => finding.line(),
        };
        if self.failure.is_none() {
            self.failure = print(&line).err();
        }
    }

    /// # Errors
    /// When something was bad.
    pub(super) fn end(self) -> Result<(), Failure> {
        match (self.failure, self.bad) {
            (Some(failure), _) => Err(failure),
            (None, 0) => Ok(()),
            (None, bad) => Err(Failure::Failed(format!("{bad} of {} findings are bad", self.looked))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_names_the_line_to_change() {
        let finding = Finding { check: Check::Redis, verdict: Verdict::Bad, text: "no", change: Some("redis.url") };
        assert_eq!(finding.line(), "BAD   redis: no\n  change: redis.url\n");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(json, r#"{"check":"redis","verdict":"bad","text":"no","change":"redis.url"}"#);
    }
}
