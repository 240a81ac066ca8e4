//! An application that answers what a test wants and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait::LIMIT;

pub(crate) struct BackEnd {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Option<String>,
    /// A word, and the answer to requests that have it.
    refused: Option<(String, String)>,
    /// It keeps its connections after the answer, and says no more.
    hangs: bool,
    asked: Vec<String>,
}

impl BackEnd {
    /// One that takes requests and says nothing until it is given an answer.
    pub(crate) fn start() -> Self {
        Self::on(0)
    }

    /// The same on a port that was free a moment ago.
    pub(crate) fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on: this status line, these lines of a head, this body.
    pub(crate) fn answers(&self, status: &str, head: &str, body: &str) {
        let answer = format!("HTTP/1.1 {status}\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.state.lock().unwrap().answer = Some(answer);
    }

    /// From now on this is the answer to requests with this word.
    pub(crate) fn refuses(&self, word: &str, status: &str) {
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        self.state.lock().unwrap().refused = Some((word.to_owned(), answer));
    }

    /// From now on: this head, and of the body that it speaks of nothing.
    pub(crate) fn answers_and_hangs(&self, head: &str) {
        let mut state = self.state.lock().unwrap();
        (state.answer, state.hangs) = (Some(format!("HTTP/1.1 {head}\r\n\r\n")), true);
    }

    /// What it was asked since the last look: whole requests.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut bytes) {
            Ok(length @ 1..) => request.extend_from_slice(&bytes[..length]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let (answer, hangs) = {
        let mut state = state.lock().unwrap();
        let refused = state.refused.as_ref().filter(|(word, _)| text.contains(word)).map(|(_, answer)| answer.clone());
        state.asked.push(text);
        (refused.or_else(|| state.answer.clone()), state.hangs)
    };
    if let Some(answer) = &answer {
        let _ = stream.write_all(answer.as_bytes());
    }
    if answer.is_none() || hangs {
        // Silence until the other side gives up.
        let _ = stream.read(&mut bytes);
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
