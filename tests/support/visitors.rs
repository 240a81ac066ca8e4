//! Chromium with several visitors, each logged in for itself.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::folder::Folder;
use super::process::Process;
use super::wait::LIMIT;

pub(crate) struct Visitors {
    process: Process,
    /// The address that paths are below.
    site: String,
    /// What Chromium writes goes here.
    _folder: Folder,
}

impl Visitors {
    pub(crate) fn of(site: String) -> Self {
        let folder = Folder::new();
        let mut command = Command::new("node");
        command.current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")).env("TMPDIR", folder.path());
        command.arg("chromium.mjs").arg(json!({ "limit": LIMIT.as_millis() as u64 * 3 / 4 }).to_string());
        let process = Process::spawn("node chromium.mjs", &mut command);
        let visitors = Self { process, site, _folder: folder };
        visitors.answer("Chromium starts");
        visitors
    }

    /// A new one, who comes to the login page and says who it is.
    pub(crate) fn logs_in(&mut self, who: &str, name: &str) {
        self.ask(json!({ "do": "comes", "who": who }));
        self.opens(who, "/login");
        self.clicks(who, &format!("button:has-text(\"{name}\")"));
    }

    /// A new one, who comes to this page.
    pub(crate) fn comes(&mut self, who: &str, path: &str) {
        self.ask(json!({ "do": "comes", "who": who }));
        self.opens(who, path);
    }

    pub(crate) fn opens(&mut self, who: &str, path: &str) {
        self.ask(json!({ "do": "opens", "who": who, "url": format!("{}{path}", self.site) }));
    }

    /// `on`: a CSS selector, here and below.
    pub(crate) fn clicks(&mut self, who: &str, on: &str) {
        self.ask(json!({ "do": "clicks", "who": who, "on": on }));
    }

    pub(crate) fn types(&mut self, who: &str, on: &str, text: &str) {
        self.ask(json!({ "do": "types", "who": who, "on": on, "text": text }));
    }

    /// Waits until the elements have these texts, and there are no others.
    pub(crate) fn sees(&mut self, who: &str, on: &str, texts: &[&str]) {
        self.ask(json!({ "do": "sees", "who": who, "on": on, "texts": texts }));
    }

    /// Waits until there are so many elements.
    pub(crate) fn counts(&mut self, who: &str, on: &str, count: usize) {
        self.ask(json!({ "do": "counts", "who": who, "on": on, "count": count }));
    }

    /// Keeps a picture of the page for who wants to look: `target/artefacts/NAME.png`, or in the folder that
    /// `FANFARE_ARTEFACTS` names.
    pub(crate) fn picture(&mut self, who: &str, name: &str) {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/artefacts");
        let folder = std::env::var_os("FANFARE_ARTEFACTS").map_or(target, PathBuf::from);
        self.ask(json!({ "do": "takes", "who": who, "file": folder.join(format!("{name}.png")) }));
    }

    /// Closes all of its pages.
    pub(crate) fn goes(&mut self, who: &str) {
        self.ask(json!({ "do": "goes", "who": who }));
    }

    fn ask(&mut self, question: Value) {
        let question = question.to_string();
        self.process.tell(&question);
        self.answer(&question);
    }

    fn answer(&self, question: &str) {
        let line = self.process.line().unwrap_or_else(|| panic!("{question}: {:#?}", self.process.log()));
        let answer: Value = serde_json::from_str(&line).expect("a JSON line");
        assert_eq!(answer, json!({ "yes": true }), "{question}");
    }
}

impl Drop for Visitors {
    /// Chromium puts its things away, and then they are gone with the folder.
    fn drop(&mut self) {
        self.process.hang_up();
        if !std::thread::panicking() {
            self.process.end();
        }
    }
}
