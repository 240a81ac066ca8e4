//! Why a publish failed, by what the caller can do about it.

use std::fmt;

/// [`PublishError::MayHaveHappened`] leaves open whether clients got the event, and so does a refusal with a status of 500
/// or more, whose text says it. After all others nobody got it; where several events or channels went out together, those
/// before the refused one may have been published.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The address is none that we can publish to. Trying again does not help.
    BadAddress(String),
    /// The event is none that anyone would take. Trying again does not help.
    BadEvent(String),
    /// Nobody answers there, or not in time. Try again later: the next call connects anew.
    CannotReach { address: String, why: String },
    /// The other side said no: a wrong key, an unknown app, no permission, overload. `status` is the one of HTTP; Redis has
    /// none.
    Refused { status: Option<u16>, text: String },
    /// More data than the other side takes.
    TooLarge(String),
    /// It was sent, and the answer was lost. Publishing again may bring the event twice.
    MayHaveHappened(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadAddress(text) | Self::BadEvent(text) => out.write_str(text),
            Self::CannotReach { address, why } => write!(out, "Cannot reach {address}: {why}"),
            Self::Refused { status: Some(status), text } => write!(out, "Refused with {status}: {text}"),
            Self::Refused { status: None, text } => write!(out, "Refused: {text}"),
            Self::TooLarge(text) => write!(out, "Too large: {text}"),
            Self::MayHaveHappened(text) => write!(out, "{text}; the event was sent and may have been published"),
        }
    }
}

impl std::error::Error for PublishError {}
