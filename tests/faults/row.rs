//! The verdict on one fault, and its row in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::scene::Scene;
use crate::support::crowd::{Guest, Listener};

/// What came of it, over all clients.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    clients: usize,
    published: u64,
    /// Publishes that were answered otherwise, and so promised to nobody, by status.
    refused: BTreeMap<u16, u64>,
    /// Events that were published and that a connected client did not hear; counted for each client.
    pub(crate) lost: u64,
    /// Those of them of which the client was not told.
    pub(crate) silent: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    /// Members shown that are not there, or the other way round.
    pub(crate) ghosts: usize,
    /// Member events beyond what happened.
    pub(crate) false_events: usize,
    pub(crate) gaps: u64,
    /// Comebacks that were told all that they missed, and those that were told that something is lost.
    pub(crate) recovered: u64,
    pub(crate) unrecovered: u64,
    /// Connections that ended.
    pub(crate) closed: usize,
    strange: Vec<String>,
}

impl Verdict {
    /// Ends the load. `may`: how often this client may see this user come and go.
    pub(crate) fn of(scene: &mut Scene, may: impl Fn(&Guest, &str) -> (usize, usize)) -> Self {
        scene.settle();
        let (published, refused) = (scene.load.taken(), scene.load.refused());
        let mut verdict = Self { clients: scene.crowd.listeners.len(), published, refused, ..Self::default() };
        verdict.ghosts = scene.ghosts();
        for listener in &scene.crowd.listeners {
            verdict.add(scene, listener, &may);
        }
        verdict
    }

    fn add(&mut self, scene: &Scene, listener: &Listener, may: &impl Fn(&Guest, &str) -> (usize, usize)) {
        let story = listener.story();
        let sources = scene.load.sources.iter().enumerate();
        let tails = sources.filter_map(|(index, source)| story.tail(index, source.last()));
        for hole in story.holes.iter().cloned().chain(tails) {
            let lost = scene.load.sources[hole.source].taken(hole.from, hole.to);
            self.lost += lost;
            self.silent += if hole.told { 0 } else { lost };
            if lost > 0 && !hole.told {
                println!("silently lost: {hole:?}");
            }
        }
        self.doubled += story.doubled;
        self.disordered += story.disordered;
        self.gaps += story.gaps;
        self.recovered += story.recovered;
        self.unrecovered += story.unrecovered;
        self.closed += story.closes.len();
        let users: BTreeSet<&str> = story.changes.iter().map(|change| &*change.user).collect();
        let beyond = users.into_iter().map(|user| {
            let ((came, went), (may_come, may_go)) = (story.count(user), may(&listener.guest, user));
            came.saturating_sub(may_come) + went.saturating_sub(may_go)
        });
        self.false_events += beyond.sum::<usize>() + story.absurd.len();
        self.strange.extend(story.strange.iter().cloned());
    }

    /// What holds in every fault: nothing is lost in silence, doubled or out of order, and the rosters are right.
    pub(crate) fn assert_invariants(&self, scene: &mut Scene) {
        assert_eq!(self.silent, 0, "lost, and no gap told: {self:?}");
        assert_eq!((self.doubled, self.disordered), (0, 0), "doubled, out of order: {self:?}");
        assert_eq!((self.ghosts, self.false_events), (0, 0), "ghosts, false member events: {self:?}");
        assert!(self.strange.is_empty(), "{:?}", self.strange);
        assert!(self.published > 50, "hardly any load: {self:?}");
        scene.nodes.iter_mut().for_each(|node| node.assert_well());
    }

    /// Clients, what was published, and what became of it.
    pub(crate) fn cells(&self) -> String {
        let (ghosts, false_events) = (self.ghosts as u64, self.false_events as u64);
        self.counted(&[self.lost, self.silent, self.doubled, self.disordered, ghosts, false_events, self.gaps])
    }

    /// The same where something is kept.
    fn cells_of_history(&self) -> String {
        let comebacks = [self.recovered, self.unrecovered];
        self.counted(&[&[self.lost, self.silent, self.doubled, self.disordered, self.gaps], &comebacks[..]].concat())
    }

    fn counted(&self, counts: &[u64]) -> String {
        let taken = match self.refused.values().sum() {
            0 => self.published.to_string(),
            refused @ 1_u64.. => format!("{} (and {refused} not)", self.published),
        };
        let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
        format!("{} | {taken} | {}", self.clients, counts.join(" | "))
    }

    pub(crate) fn assert_nothing_lost(&self) {
        assert_eq!((self.lost, self.gaps), (0, 0), "lost, gaps told: {self:?}");
    }
}

/// A row of the table in `docs/reliability.md`.
pub(crate) struct Row {
    number: &'static str,
    fault: &'static str,
    healed: Option<Duration>,
    notes: Vec<String>,
}

impl Row {
    /// `number`: its place in the table.
    pub(crate) fn of(number: &'static str, fault: &'static str) -> Self {
        Self { number, fault, healed: None, notes: Vec::new() }
    }

    /// The time until everything was as before.
    pub(crate) fn healed(mut self, after: Duration) -> Self {
        self.healed = Some(after);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What `cargo xtask test faults` looks for.
    pub(crate) fn print(self, verdict: &Verdict) {
        self.print_cells("fault", verdict, verdict.cells());
    }

    /// The same for the table of what is kept.
    pub(crate) fn print_of_history(self, verdict: &Verdict) {
        self.print_cells("history", verdict, verdict.cells_of_history());
    }

    fn print_cells(self, table: &str, verdict: &Verdict, cells: String) {
        let healed = self.healed.map_or("–".to_owned(), seconds);
        let cells = [self.number.to_owned(), self.fault.to_owned(), cells, healed, self.notes.join("; ")];
        println!("not taken, by status: {:?}", verdict.refused);
        println!("{table} row: {}", cells.join(" | "));
    }
}

/// Seconds as the table shows them.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Nobody may come or go.
pub(crate) fn nobody(_: &Guest, _: &str) -> (usize, usize) {
    (0, 0)
}
