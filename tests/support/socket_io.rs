//! A Socket.IO client by hand, for what must be seen packet by packet: by polls of Engine.IO 3 or 4, or by a WebSocket.

use serde_json::Value;

use super::http::{self, Response};
use super::node::Node;
use super::websocket::{Frame, Socket};

/// Which engine a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    Three,
    Four,
}

impl Engine {
    pub(crate) const BOTH: [Self; 2] = [Self::Three, Self::Four];

    fn number(self) -> u8 {
        if self == Self::Three { 3 } else { 4 }
    }

    /// The body of a post, or what the answer to a poll holds.
    pub(crate) fn payload(self, packets: &[&str]) -> String {
        match self {
            Self::Three => packets.iter().map(|packet| format!("{}:{packet}", packet.encode_utf16().count())).collect(),
            Self::Four => packets.join("\u{1e}"),
        }
    }

    fn packets(self, payload: &str) -> Vec<String> {
        if self == Self::Four {
            return payload.split('\u{1e}').map(str::to_owned).collect();
        }
        let mut packets = Vec::new();
        let mut rest = payload;
        while let Some((length, after)) = rest.split_once(':') {
            let length: usize = length.parse().expect("a length");
            let units: Vec<u16> = after.encode_utf16().collect();
            let packet = String::from_utf16(&units[..length]).expect("whole letters");
            rest = &after[packet.len()..];
            packets.push(packet);
        }
        packets
    }
}

/// A client that polls. Each request is a connection of its own. The cookie of a load balancer is kept, as browsers do.
pub(crate) struct Poller {
    pub(crate) engine: Engine,
    pub(crate) node: std::net::SocketAddr,
    /// The engine's name for the session, a secret.
    pub(crate) sid: String,
    /// What the socket is called by the application.
    pub(crate) id: String,
    /// Header lines of each request.
    pub(crate) headers: String,
    heard: std::collections::VecDeque<String>,
}

impl Poller {
    /// Connected to the main namespace.
    pub(crate) fn connect(node: &Node, engine: Engine) -> Self {
        Self::with(node, engine, "", "")
    }

    /// The same with more of a query (`&app_key=…`) and header lines.
    pub(crate) fn with(node: &Node, engine: Engine, query: &str, headers: &str) -> Self {
        Self::at(node.address, engine, query, headers)
    }

    /// The same through whatever is at this address.
    pub(crate) fn at(address: std::net::SocketAddr, engine: Engine, query: &str, headers: &str) -> Self {
        let path = format!("/socket.io/?EIO={}&transport=polling{query}", engine.number());
        let opened = request(address, "GET", &path, headers, "");
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut heard: std::collections::VecDeque<String> = engine.packets(&opened.body).into();
        let open = heard.pop_front().expect("the open packet");
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("the open packet")).unwrap();
        let sid = open["sid"].as_str().unwrap().to_owned();
        let cookie = opened.headers.get("set-cookie").and_then(|set| set.split(';').next());
        let kept = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        let (id, headers) = (sid.clone(), format!("{headers}{kept}"));
        let mut poller = Self { engine, node: address, sid, id, headers, heard };
        if engine == Engine::Four {
            assert_eq!(poller.post(&["40"]).body, "ok");
        }
        let connected = poller.next();
        let sid = connected.strip_prefix("40").expect("connected");
        if let Ok(sid) = serde_json::from_str::<Value>(sid) {
            poller.id = sid["sid"].as_str().unwrap().to_owned();
        }
        poller
    }

    pub(crate) fn path(&self) -> String {
        format!("/socket.io/?EIO={}&transport=polling&sid={}", self.engine.number(), self.sid)
    }

    pub(crate) fn post(&self, packets: &[&str]) -> Response {
        request(self.node, "POST", &self.path(), &self.headers, &self.engine.payload(packets))
    }

    pub(crate) fn poll(&self) -> Response {
        request(self.node, "GET", &self.path(), &self.headers, "")
    }

    /// The next packet; the server's pings are answered and not shown.
    pub(crate) fn next(&mut self) -> String {
        loop {
            match self.heard.pop_front() {
                Some(ping) if ping == "2" => assert_eq!(self.post(&["3"]).body, "ok"),
                Some(packet) => return packet,
                None => {
                    let polled = self.poll();
                    assert_eq!(polled.status, 200, "{polled:?}");
                    self.heard.extend(self.engine.packets(&polled.body));
                }
            }
        }
    }

    pub(crate) fn say(&self, packet: &str) {
        let posted = self.post(&[packet]);
        assert_eq!((posted.status, &*posted.body), (200, "ok"));
    }

    pub(crate) fn subscribe(&self, channel: &str) {
        self.say(&subscribe(channel));
    }

    /// What was heard before this event of a public channel, which is asked for here and published by the node itself.
    pub(crate) fn event(&mut self) -> Value {
        event(&self.next())
    }
}

/// A client on a WebSocket from the first.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) id: String,
}

impl Wire {
    pub(crate) fn connect(node: &Node, engine: Engine) -> Self {
        Self::with(node, engine, "", "")
    }

    pub(crate) fn with(node: &Node, engine: Engine, query: &str, headers: &str) -> Self {
        let path = format!("/socket.io/?EIO={}&transport=websocket{query}", engine.number());
        let mut socket = Socket::open_with(node.address, &path, headers).expect("the upgrade is granted");
        let open = text(&mut socket);
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("the open packet")).unwrap();
        let id = open["sid"].as_str().unwrap().to_owned();
        if engine == Engine::Four {
            socket.send("40");
        }
        assert!(text(&mut socket).starts_with("40"));
        Self { socket, id }
    }

    /// The next packet; the server's pings are answered and not shown.
    pub(crate) fn next(&mut self) -> String {
        loop {
            match text(&mut self.socket) {
                ping if ping == "2" => self.socket.send("3"),
                packet => return packet,
            }
        }
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.socket.send(&subscribe(channel));
    }

    pub(crate) fn event(&mut self) -> Value {
        event(&self.next())
    }
}

/// Asks as Echo does.
pub(crate) fn subscribe(channel: &str) -> String {
    format!(r#"42["subscribe",{{"channel":"{channel}","auth":{{"headers":{{}}}}}}]"#)
}

/// The name and arguments of an event.
pub(crate) fn event(packet: &str) -> Value {
    let array = packet.strip_prefix("42").unwrap_or_else(|| panic!("no event: {packet}"));
    serde_json::from_str(array).expect("a JSON array")
}

pub(crate) fn text(socket: &mut Socket) -> String {
    match socket.next() {
        Frame::Text(text) => text,
        other => panic!("no packet: {other:?}"),
    }
}

/// One request by hand.
pub(crate) fn request(to: std::net::SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    http::exchange(to, &[head.as_bytes(), body.as_bytes()].concat())
}
