//! What each event carries: its channel, its number there, when it was due, and how long it is. Read out of a frame without parsing it.

/// Stands before the numbers. Nothing else in a frame has it.
const MARK: &str = "fb!";

/// Shortest data in bytes, so that a stamp always fits.
pub(crate) const BYTES_MIN: usize = 64;

/// Ends the filling, so that an event that was cut short or padded is none.
const END: char = '.';

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) channel: u32,
    /// From 1 up, on each channel.
    pub(crate) number: u64,
    /// Nanoseconds from the start of the run to when the event was to be said.
    pub(crate) due: u64,
}

impl Stamp {
    /// A text of this many bytes, at least [`BYTES_MIN`], that needs no escapes in JSON.
    pub(crate) fn text(&self, bytes: usize) -> String {
        let bytes = bytes.max(BYTES_MIN);
        let mut text = format!("{MARK}{}!{}!{}!{bytes}!", self.channel, self.number, self.due);
        text.extend(std::iter::repeat_n('x', bytes - 1 - text.len()));
        text.push(END);
        text
    }

    /// The stamp in a frame, if it has one and its data are whole.
    pub(crate) fn find(frame: &str) -> Option<Self> {
        let (_, data) = frame.split_once(MARK)?;
        let mut numbers = data.splitn(5, '!');
        let channel = numbers.next()?.parse().ok()?;
        let number = numbers.next()?.parse().ok()?;
        let due = numbers.next()?.parse().ok()?;
        let bytes: usize = numbers.next()?.parse().ok()?;
        (data.find(END)? + 1 + MARK.len() == bytes).then_some(Self { channel, number, due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_a_frame_and_nowhere_else() {
        let stamp = Stamp { channel: 7, number: u64::MAX, due: 123_456_789_012 };
        for bytes in [0, BYTES_MIN, 200, 16_384] {
            let text = stamp.text(bytes);
            assert_eq!(text.len(), bytes.max(BYTES_MIN));
            let frame = format!(r#"{{"event":"bench","channel":"bench-7","data":"{text}"}}"#);
            assert_eq!(Stamp::find(&frame), Some(stamp));
            assert_eq!(Stamp::find(&frame.replace("x.", ".")), if text.contains("x.") { None } else { Some(stamp) });
            assert_eq!(Stamp::find(&frame.replace('.', "")), None);
        }
        for other in ["", r#"{"event":"pusher:pong","data":"{}"}"#, "fb!1!2", "fb!1!2!x!", "fb!-1!2!3!20!x."] {
            assert_eq!(Stamp::find(other), None, "{other}");
        }
    }
}
