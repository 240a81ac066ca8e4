//! An application's endpoint for webhooks.

use serde_json::Value;

use super::back_end::BackEnd;
use super::wait::until;

/// An application's endpoint, and what it was told.
pub(crate) struct Endpoint {
    pub(crate) back_end: BackEnd,
    pub(crate) told: Vec<Told>,
}

/// One request.
pub(crate) struct Told {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) events: Vec<Value>,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.header("x-fanfare-event-id").split(',').map(str::to_owned).collect()
    }
}

impl Endpoint {
    /// One that says 200.
    pub(crate) fn start() -> Self {
        Self::of(BackEnd::start())
    }

    pub(crate) fn of(back_end: BackEnd) -> Self {
        let endpoint = Self { back_end, told: Vec::new() };
        endpoint.says("200 OK");
        endpoint
    }

    pub(crate) fn says(&self, status: &str) {
        self.back_end.answers(status, "Connection: close\r\n", "");
    }

    pub(crate) fn url(&self) -> String {
        self.back_end.url("/hooks?x=1")
    }

    /// All events so far, in the order in which they came.
    pub(crate) fn events(&mut self) -> Vec<Value> {
        for request in self.back_end.asked() {
            let (head, body) = request.split_once("\r\n\r\n").expect("a whole request");
            let parsed: Value = serde_json::from_str(body).expect("JSON");
            let events = parsed["events"].as_array().expect("events").clone();
            self.told.push(Told { head: head.to_owned(), body: body.to_owned(), events });
        }
        self.told.iter().flat_map(|told| told.events.clone()).collect()
    }

    /// Waits for so many events.
    pub(crate) fn wait_for(&mut self, count: usize) -> Vec<Value> {
        until(&format!("{count} events"), || Some(self.events()).filter(|events| events.len() >= count))
    }
}

/// The settings of a webhook of the main app.
pub(crate) fn hook<'a>(url: &'a str, events: &'a str) -> [(&'static str, &'a str); 2] {
    [("FANFARE_APPS__MAIN__WEBHOOKS__HOOK__URL", url), ("FANFARE_APPS__MAIN__WEBHOOKS__HOOK__EVENTS", events)]
}
