//! Every "no", in one table.
//!
//! The numbers follow Pusher's ranges (pusher docs, "Connection closure"): 4000–4099 stay away, 4100–4199 come back after a
//! while, 4200–4299 come back at once, 4300–4399 an error on an open connection. Each dialect spells them in its own way.

use std::borrow::Cow;

/// What a well-behaved client does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// The connection stays open; the one request failed.
    Stay,
    /// Closed: do not come back.
    StayAway,
    /// Closed: come back after a while.
    ComeBackLater,
    /// Closed: come back at once.
    ComeBackNow,
}

/// Why something is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    UnknownApp,
    PathNotFound,
    BadVersion,
    UnsupportedProtocol,
    Unauthorized,
    AppFull,
    SlowConsumer,
    TooManyBadFrames,
    OverCapacity,
    AppFullForNow,
    Draining,
    Gap,
    PongTimeout,
    ShuttingDown,
    BinaryFrame,
    ProtocolError,
    NotUtf8,
    FrameTooLarge,
    BadFrame,
    UnknownCommand,
    BadChannel,
    NotPermitted,
    BadMember,
    MembersFull,
    TooManySubscriptions,
    WhisperRefused,
    WhisperTooFast,
    EventNameTooLong,
    ChannelNameTooLong,
    SignInRefused,
    WatchlistFull,
    Terminated,
    Unavailable,
    ClientLeft,
}

/// One row: the number in close frames and errors, the HTTP-like status in `subscription_error`, the default text, when
/// it happens, what the client does.
#[derive(Debug)]
pub struct Row {
    pub reason: Reason,
    /// Close code, or the error number on an open connection. 0: no number.
    pub code: u16,
    /// For refused subscriptions.
    pub status: u16,
    pub text: &'static str,
    pub when: &'static str,
    pub advice: Advice,
    /// The value of the metric label `reason`.
    pub label: &'static str,
}

use Advice::{ComeBackLater, ComeBackNow, Stay, StayAway};

/// In the order of [`Reason`].
#[rustfmt::skip]
pub const TABLE: [Row; 34] = [
    row(Reason::UnknownApp, 4001, 404, "Application does not exist", "The key in the URL belongs to no app.", StayAway, "unknown_app"),
    row(Reason::PathNotFound, 4005, 404, "Path not found", "No dialect is served at this path.", StayAway, "path"),
    row(Reason::BadVersion, 4006, 400, "Invalid version string format", "`protocol` is not a number.", StayAway, "protocol"),
    row(Reason::UnsupportedProtocol, 4007, 400, "Unsupported protocol version", "`protocol` is not 5, 6 or 7.", StayAway, "protocol"),
    row(Reason::Unauthorized, 4009, 401, "Connection is unauthorized", "The connection may not be here.", StayAway, "unauthorized"),
    row(Reason::AppFull, 4004, 403, "Application is over connection quota", "The app has as many connections as `connections` allows, and its `when_full` is `stay_away`.", StayAway, "limit"),
    row(Reason::SlowConsumer, 4100, 503, "The client reads too slowly", "More waits for the client than `limits.outbox_bytes` allows.", ComeBackLater, "slow_consumer"),
    row(Reason::TooManyBadFrames, 4100, 400, "Too many unreadable messages", "Twenty unreadable messages in a row.", ComeBackLater, "error"),
    row(Reason::OverCapacity, 4100, 503, "Over capacity", "The node takes no more connections for now.", ComeBackLater, "limit"),
    row(Reason::AppFullForNow, 4100, 503, "Application is over connection quota, please come back later", "The same, and its `when_full` is `come_back`.", ComeBackLater, "limit"),
    row(Reason::Draining, 4200, 503, "The server is going away, please reconnect", "The node drains.", ComeBackNow, "drain"),
    row(Reason::Gap, 4200, 503, "Messages were lost, please reconnect", "Messages were lost and the app's `on_gap` is `close`.", ComeBackNow, "gap"),
    row(Reason::PongTimeout, 4201, 408, "Pong reply not received", "Silence for the activity timeout, and no answer to a ping.", ComeBackNow, "ping_timeout"),
    row(Reason::ShuttingDown, 1012, 503, "Service restart", "A second signal ended the process at once.", ComeBackLater, "drain"),
    row(Reason::BinaryFrame, 1003, 400, "Binary messages are not supported", "A binary frame on a text protocol.", ComeBackLater, "error"),
    row(Reason::ProtocolError, 1002, 400, "The frame breaks the WebSocket protocol", "A frame that RFC 6455 forbids.", ComeBackLater, "error"),
    row(Reason::NotUtf8, 1007, 400, "A text message is not UTF-8", "A text message with other bytes.", ComeBackLater, "error"),
    row(Reason::FrameTooLarge, 1009, 413, "The message is too large", "A message above `limits.frame_bytes`.", ComeBackLater, "error"),
    row(Reason::BadFrame, 0, 400, "The message is not a JSON object with the expected fields", "A message that cannot be read.", Stay, "bad_frame"),
    row(Reason::UnknownCommand, 0, 400, "Unknown command", "A message of a kind that does not exist.", Stay, "unknown_command"),
    row(Reason::BadChannel, 0, 400, "The channel name is not valid", "A name that no channel can have.", Stay, "invalid"),
    row(Reason::NotPermitted, 4009, 401, "The signature does not fit this socket and channel", "A missing or wrong signature.", Stay, "denied"),
    row(Reason::BadMember, 0, 400, "The channel data does not name a member", "`channel_data` without a usable `user_id`.", Stay, "invalid"),
    row(Reason::MembersFull, 4100, 403, "The presence channel is full", "More members than `limits.members`.", Stay, "limit"),
    row(Reason::TooManySubscriptions, 0, 403, "Too many subscriptions on this connection", "More channels than `limits.channels_per_connection`.", Stay, "limit"),
    row(Reason::WhisperRefused, 4301, 403, "The client event is refused", "A client event that is not allowed here.", Stay, "whisper"),
    row(Reason::WhisperTooFast, 4301, 429, "Too many client events in a second", "More client events of a connection in a second than `client_events_per_second`.", Stay, "whisper"),
    row(Reason::EventNameTooLong, 4301, 400, "The event name is too long", "A client event whose name is longer than `event_name_bytes`.", Stay, "whisper"),
    row(Reason::ChannelNameTooLong, 0, 400, "The channel name is too long", "A channel name longer than `channel_name_bytes`.", Stay, "invalid"),
    row(Reason::SignInRefused, 4009, 401, "The signature does not fit this socket and user", "A sign-in without a right signature, of no usable user, or of a second one.", Stay, "sign_in"),
    row(Reason::WatchlistFull, 4302, 403, "The watchlist is too long: only its first users are watched", "More watched users than `watchlist`; the sign-in holds.", Stay, "limit"),
    row(Reason::Terminated, 4009, 403, "You got disconnected by the app.", "The application has ended the user's connections.", StayAway, "terminated"),
    row(Reason::Unavailable, 0, 503, "The backplane refused the channel", "Redis does not let this node listen or publish.", Stay, "unavailable"),
    row(Reason::ClientLeft, 1000, 200, "Goodbye", "The client has said that it leaves, in the words of its dialect.", ComeBackLater, "client"),
];

const fn row(
    reason: Reason,
    code: u16,
    status: u16,
    text: &'static str,
    when: &'static str,
    advice: Advice,
    label: &'static str,
) -> Row {
    Row { reason, code, status, text, when, advice, label }
}

impl Reason {
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// A "no", with a text of its own where the table's is too general.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub reason: Reason,
    pub detail: Option<Cow<'static, str>>,
    /// The status of somebody who was asked, instead of the table's.
    status: Option<u16>,
}

impl Refusal {
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: Some(detail.into()), status: None }
    }

    pub fn text(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.reason.row().text)
    }

    pub fn code(&self) -> u16 {
        self.reason.row().code
    }

    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.reason.row().status)
    }

    /// The same "no", as the one who was asked has numbered it.
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, status: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_reasons_and_codes_fit_their_advice() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.reason as usize, index);
            match row.code {
                4000..=4099 => assert!(matches!(row.advice, StayAway | Stay), "{row:?}"),
                4100..=4199 => assert!(matches!(row.advice, ComeBackLater | Stay), "{row:?}"),
                4200..=4299 => assert_eq!(row.advice, ComeBackNow, "{row:?}"),
                _ => assert!(matches!(row.advice, Stay | ComeBackLater), "{row:?}"),
            }
        }
    }
}
