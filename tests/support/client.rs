//! A Pusher client by hand, for what must be seen frame by frame.

use serde_json::{Value, json};

use super::node::{KEY, Node, SECRET};
use super::websocket::{Frame, Socket};

/// One message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) channel: String,
    pub(crate) raw: Value,
}

impl Message {
    /// The data, parsed where it is JSON in a string.
    pub(crate) fn data(&self) -> Value {
        let data = &self.raw["data"];
        data.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| data.clone())
    }
}

pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) id: String,
    /// Its app, and the secret with which that app's back end signs.
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
}

impl Client {
    pub(crate) fn connect(node: &Node) -> Self {
        Self::of(node, KEY, SECRET)
    }

    /// Connects to the app with this key and secret.
    pub(crate) fn of(node: &Node, key: &'static str, secret: &'static str) -> Self {
        Self::by(node, &format!("/app/{key}?protocol=7&client=test&version=1"), key, secret)
    }

    /// Connects by this path to the app with this key and secret.
    pub(crate) fn by(node: &Node, path: &str, key: &'static str, secret: &'static str) -> Self {
        let mut socket = Socket::open(node.address, path).expect("the upgrade is granted");
        let welcome = message(socket.next()).expect("the first frame is a message");
        assert_eq!(welcome.event, "pusher:connection_established");
        let id = welcome.data()["socket_id"].as_str().expect("a socket id").to_owned();
        Self { socket, id, key, secret }
    }

    /// Connected and subscribed.
    pub(crate) fn on(node: &Node, channel: &str) -> Self {
        let mut client = Self::connect(node);
        client.subscribe(channel);
        client
    }

    /// Connected and present as this user.
    pub(crate) fn present(node: &Node, channel: &str, user: &str) -> Self {
        let mut client = Self::connect(node);
        client.enter(channel, user);
        client
    }

    pub(crate) fn send(&mut self, event: &str, data: Value) {
        self.socket.send(&json!({ "event": event, "data": data }).to_string());
    }

    /// Asks and waits for the yes; private channels are signed for.
    pub(crate) fn subscribe(&mut self, channel: &str) -> Message {
        self.ask(channel);
        self.expect("pusher_internal:subscription_succeeded", channel)
    }

    /// Asks, and does not wait.
    pub(crate) fn ask(&mut self, channel: &str) {
        let auth = if channel.starts_with("private-") { self.sign(channel, None) } else { String::new() };
        self.send("pusher:subscribe", json!({ "channel": channel, "auth": auth }));
    }

    /// Enters a presence channel and waits for the members.
    pub(crate) fn enter(&mut self, channel: &str, user: &str) -> Message {
        self.ask_to_enter(channel, user);
        self.expect("pusher_internal:subscription_succeeded", channel)
    }

    pub(crate) fn ask_to_enter(&mut self, channel: &str, user: &str) {
        let member = json!({ "user_id": user, "user_info": { "name": user } }).to_string();
        let auth = self.sign(channel, Some(&member));
        self.send("pusher:subscribe", json!({ "channel": channel, "auth": auth, "channel_data": member }));
    }

    /// Signs in with what the application's back end says of the user, and waits for the yes.
    pub(crate) fn sign_in(&mut self, user_data: &Value) -> Message {
        self.ask_to_sign_in(&user_data.to_string());
        self.expect("pusher:signin_success", "")
    }

    pub(crate) fn ask_to_sign_in(&mut self, user_data: &str) {
        let auth = self.sign_user(user_data);
        self.send("pusher:signin", json!({ "auth": auth, "user_data": user_data }));
    }

    /// Signed in, and subscribed to the user's own channel as pusher-js does.
    pub(crate) fn of_user(node: &Node, user: &str) -> Self {
        let mut client = Self::connect(node);
        client.sign_in(&json!({ "id": user }));
        client.subscribe(&format!("#server-to-user-{user}"));
        client
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.send("pusher:unsubscribe", json!({ "channel": channel }));
    }

    /// The signature that the application's back end would give.
    pub(crate) fn sign(&self, channel: &str, member: Option<&str>) -> String {
        signature(self.key, self.secret, &self.id, channel, member)
    }

    /// The signature of a sign-in.
    pub(crate) fn sign_user(&self, user_data: &str) -> String {
        let text = model::auth::user_text(self.id.parse().expect("a socket id of ours"), user_data);
        format!("{}:{}", self.key, model::auth::sign(&model::app::Secret::new(self.secret), text.as_bytes()))
    }

    /// The next message, byte for byte.
    pub(crate) fn expect_text(&mut self, text: &str) {
        assert_eq!(self.socket.next(), Frame::Text(text.to_owned()));
    }

    /// The next message.
    ///
    /// # Panics
    /// At a close, and when nothing comes.
    pub(crate) fn next(&mut self) -> Message {
        let frame = self.socket.next();
        message(frame.clone()).unwrap_or_else(|| panic!("not a message: {frame:?}"))
    }

    /// The next message, which must be this one.
    pub(crate) fn expect(&mut self, event: &str, channel: &str) -> Message {
        let next = self.next();
        assert_eq!((&*next.event, &*next.channel), (event, channel), "{:?}", next.raw);
        next
    }

    /// All messages before this one, and this one.
    pub(crate) fn until(&mut self, event: &str) -> (Vec<Message>, Message) {
        let mut before = Vec::new();
        loop {
            let next = self.next();
            if next.event == event {
                return (before, next);
            }
            before.push(next);
        }
    }

    /// Asks for an answer and takes it; whatever came before it is given back. A connection that answers is alive.
    pub(crate) fn ping(&mut self) -> Vec<Message> {
        self.send("pusher:ping", json!({}));
        self.until("pusher:pong").0
    }

    /// The code with which the server closes; messages before it are passed over.
    pub(crate) fn close_code(&mut self) -> u16 {
        close_code(&mut self.socket)
    }
}

/// The code with which the server closes a socket.
pub(crate) fn close_code(socket: &mut Socket) -> u16 {
    loop {
        match socket.next() {
            Frame::Close { code, .. } => return code,
            Frame::End => panic!("the line ended without a close frame"),
            _ => {}
        }
    }
}

/// The signature that lets this socket into a channel.
pub(crate) fn signature(key: &str, secret: &str, socket: &str, channel: &str, member: Option<&str>) -> String {
    let text = model::auth::channel_text(socket.parse().expect("a socket id of ours"), channel, member);
    format!("{key}:{}", model::auth::sign(&model::app::Secret::new(secret), text.as_bytes()))
}

fn message(frame: Frame) -> Option<Message> {
    let Frame::Text(text) = frame else { return None };
    let raw: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"));
    let field = |name: &str| raw[name].as_str().unwrap_or_default().to_owned();
    Some(Message { event: field("event"), channel: field("channel"), raw })
}
