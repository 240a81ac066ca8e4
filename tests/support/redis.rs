//! A real redis-server of the test's own, and as much of its protocol as the tests ask it with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use super::ports;
use super::process::Process;
use super::wait::{LIMIT, until};

pub(crate) struct Redis {
    pub(crate) port: u16,
    process: Process,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    List(Vec<Reply>),
    Nil,
    Error(String),
}

impl Reply {
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    pub(crate) fn list(self) -> Vec<Reply> {
        match self {
            Self::List(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With more words of its command line.
    pub(crate) fn with(words: &[&str]) -> Self {
        let port = ports::free();
        let redis = Self { port, process: serve(port, words) };
        redis.wait();
        redis
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Comes back on the same port, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = serve(self.port, &[]);
        self.wait();
    }

    /// One command on a connection of its own.
    pub(crate) fn ask(&self, words: &[&str]) -> Reply {
        let mut link = Link::open(self.port).expect("redis-server answers");
        link.ask(words)
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) -> i64 {
        self.ask(&["PUBLISH", topic, payload]).number()
    }

    /// How many connections listen to a topic.
    pub(crate) fn listeners(&self, topic: &str) -> i64 {
        self.ask(&["PUBSUB", "NUMSUB", topic]).list()[1].number()
    }

    fn wait(&self) {
        until("redis-server answers", || {
            let pong = Link::open(self.port).map(|mut link| link.ask(&["PING"]));
            pong.filter(|reply| *reply == Reply::Text("PONG".into()))
        });
    }
}

fn serve(port: u16, words: &[&str]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
    // A replica writes down what its master sent, and a server reads at its start what it finds.
    let file = format!("fanfare-test-{}-{port}.rdb", std::process::id());
    command.args(["--dbfilename", &file]).args(words).current_dir(std::env::temp_dir());
    Process::spawn("redis-server", &mut command)
}

/// One connection to a Redis server.
pub(crate) struct Link(BufReader<TcpStream>);

impl Link {
    pub(crate) fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> Reply {
        match self.send(words) {
            Ok(()) => self.reply(),
            Err(error) => Reply::Error(error.to_string()),
        }
    }

    /// Does not wait for the reply; it stays where it is.
    pub(crate) fn send(&mut self, words: &[&str]) -> std::io::Result<()> {
        let mut text = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.0.get_mut().write_all(text.as_bytes())
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        if !matches!(self.0.read_line(&mut line), Ok(1..)) {
            return Reply::Error("the connection is gone".into());
        }
        let rest = line[1..].trim_end();
        match line.as_bytes()[0] {
            b'+' => Reply::Text(rest.to_owned()),
            b'-' => Reply::Error(rest.to_owned()),
            b':' => Reply::Number(rest.parse().unwrap()),
            b'$' if rest == "-1" => Reply::Nil,
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            b'*' => Reply::List((0..rest.parse::<usize>().unwrap()).map(|_| self.reply()).collect()),
            other => panic!("redis-server said {:?}", other as char),
        }
    }
}
