//! Stories of the topic table: what workers ask, what the backplane says, what comes out.

use std::sync::Mutex;

use model::{ChannelName, Event, RawJson, Refusal};

use super::*;
use crate::AskMember;
use crate::SubscriptionRef;
use crate::roster::Renewal;

const LINGER: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Workers for Lines {
    fn count(&self) -> usize {
        2
    }

    fn push(&self, worker: usize, item: Item) {
        let word = match item {
            Item::Deliver(delivery) => match &delivery.broadcast {
                Broadcast::Event(event) => format!("{} {}", delivery.channel.name, event.name),
                Broadcast::Joined(member) => format!("+{}", member.id),
                Broadcast::Left(member) => format!("-{}", member.id),
                Broadcast::Gap => format!("{} gap", delivery.channel.name),
                Broadcast::Count(n) => format!("{} count {n}", delivery.channel.name),
                Broadcast::Terminate => format!("{} terminate", delivery.channel.name),
            },
            Item::Admit { subscription, .. } => format!("admit {}", subscription.slot),
            Item::Refuse { subscription, refusal: Refusal { reason, .. }, .. } => {
                format!("refuse {} {reason:?}", subscription.slot)
            }
            Item::LinkGap => "linkgap".to_owned(),
        };
        self.0.lock().unwrap().push(format!("{worker}: {word}"));
    }

    fn connections(&self) -> std::collections::HashMap<Arc<str>, u64> {
        Default::default()
    }
}

struct Story {
    topics: Topics,
    /// Taken and not yet looked at.
    commands: Vec<Command>,
    lines: Arc<Lines>,
    now: Instant,
    /// Of members.
    grace: Duration,
}

fn key(name: &str) -> Arc<ChannelKey> {
    Arc::new(ChannelKey { app: "app".into(), name: ChannelName::new(name).unwrap() })
}

impl Story {
    /// With a link and a store.
    fn linked() -> Self {
        let lines = Arc::<Lines>::default();
        let mut story = Self {
            topics: Topics::new(lines.clone(), LINGER),
            commands: Vec::new(),
            lines,
            now: Instant::now(),
            grace: Duration::ZERO,
        };
        story.topics.link_up();
        story.topics.store_up(story.now, None, Renewal::None);
        story
    }

    fn ask(&mut self, worker: usize, channel: &str, slot: u32) {
        let subscription = SubscriptionRef { slot, generation: 0 };
        self.topics.ask(
            self.now,
            worker,
            Ask { channel: key(channel), subscription, member: None, roster: false, log: None },
        );
    }

    fn ask_member(&mut self, worker: usize, channel: &str, slot: u32, user: &str) {
        let member = Some(AskMember {
            member: model::Member { id: user.into(), info: None },
            members_max: 9,
            grace: self.grace,
        });
        let subscription = SubscriptionRef { slot, generation: 0 };
        self.topics.ask(self.now, worker, Ask { channel: key(channel), subscription, member, roster: true, log: None });
    }

    fn leave(&mut self, worker: usize, channel: &str) {
        self.topics.leave(self.now, worker, &key(channel));
    }

    fn id(&self, channel: &str) -> TopicId {
        self.topics.find(&key(channel)).unwrap()
    }

    fn confirm(&mut self, channel: &str) {
        self.answer_counts();
        self.topics.confirmed(self.now, self.id(channel));
    }

    fn say(&mut self, channel: &str, name: &str) {
        self.topics.broadcast(self.id(channel), Broadcast::Event(Event::new(name, RawJson::null())));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.topics.sweep(self.now);
    }

    /// The store takes counts as they come: these stories are about the rest.
    fn answer_counts(&mut self) {
        loop {
            let commands = self.topics.take_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                match command {
                    Command::Store(id, Operation::Count { .. }) => {
                        self.topics.answered(self.now, id, About::Count, Answer::Counted { later: false });
                    }
                    other => self.commands.push(other),
                }
            }
        }
    }

    /// The commands since the last call, in short.
    fn commands(&mut self) -> Vec<String> {
        self.answer_counts();
        let commands = std::mem::take(&mut self.commands);
        let names = |ids: &[TopicId]| {
            ids.iter().map(|id| self.topics.channel(*id).unwrap().name.to_string()).collect::<Vec<_>>().join(" ")
        };
        let word = |command: &Command| match command {
            Command::Subscribe(ids) => format!("subscribe {}", names(ids)),
            Command::Unsubscribe(ids) => format!("unsubscribe {}", names(ids)),
            Command::Store(_, Operation::Enter { member, .. }) => format!("enter {}", member.id),
            Command::Store(_, Operation::Exit(user)) => format!("exit {user}"),
            Command::Store(_, Operation::Roster) => "roster".to_owned(),
            Command::Store(_, other) => format!("{other:?}").to_lowercase(),
        };
        commands.iter().map(word).collect()
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.0.lock().unwrap())
    }

    /// The channel live, with one admitted subscription of worker 0.
    fn with(channel: &str) -> Self {
        let mut story = Self::linked();
        story.ask(0, channel, 1);
        assert_eq!(story.commands(), [format!("subscribe {channel}")]);
        story.confirm(channel);
        assert_eq!(story.lines(), ["0: admit 1"]);
        story
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn one_command_for_many_and_admissions_where_it_is_confirmed() {
    let mut story = Story::linked();
    story.ask(0, "a", 1);
    story.ask(1, "a", 2);
    story.ask(0, "b", 3);
    assert_eq!(story.commands(), ["subscribe a b"]);
    story.ask(0, "a", 4);
    assert_eq!((story.commands(), story.lines()), (vec![], vec![]));
    story.say("a", "too early");
    story.confirm("a");
    story.say("a", "first");
    assert_eq!(story.lines(), ["0: admit 1", "1: admit 2", "0: admit 4", "0: a first", "1: a first"]);
    story.leave(1, "a");
    story.say("a", "second");
    assert_eq!(story.lines(), ["0: a second"]);
}

#[test]
fn a_thousand_names_a_command() {
    let mut story = Story::linked();
    (0..2_500).for_each(|n| story.ask(0, &format!("c{n}"), n));
    let sizes: Vec<_> = story.commands().iter().map(|line| line.split(' ').count() - 1).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

#[test]
fn a_lingering_topic_is_not_asked_for_again_and_ends_only_unwanted() {
    let mut story = Story::with("a");
    story.leave(0, "a");
    story.pass(LINGER / 2);
    story.ask(1, "a", 2);
    assert_eq!(story.lines(), NOTHING, "others must find it occupied first");
    story.answer_counts();
    assert_eq!(story.lines(), ["1: admit 2"]);
    story.pass(LINGER);
    assert_eq!(story.commands(), NOTHING);
    story.leave(1, "a");
    story.pass(LINGER);
    assert_eq!(story.commands(), ["unsubscribe a"]);
    // Leaving: it waits for the confirmation, then asks anew.
    story.ask(0, "a", 3);
    assert_eq!((story.commands(), story.lines()), (vec![], vec![]));
    let id = story.id("a");
    story.topics.unsubscribed(story.now, id);
    assert_eq!(story.commands(), ["subscribe a"]);
    story.confirm("a");
    assert_eq!(story.lines(), ["0: admit 3"]);
}

#[test]
fn an_unwanted_topic_is_forgotten() {
    let mut story = Story::with("a");
    story.leave(0, "a");
    story.pass(LINGER);
    story.commands();
    let old = story.id("a");
    story.topics.unsubscribed(story.now, old);
    assert_eq!(story.topics.find(&key("a")), None);
    story.ask(0, "b", 1);
    assert_ne!(story.id("b"), old);
    story.topics.confirmed(story.now, old);
    assert_eq!(story.lines(), NOTHING);
}

#[test]
fn a_refused_command_is_asked_name_by_name() {
    let mut story = Story::linked();
    story.ask(0, "a", 1);
    story.ask(0, "forbidden", 2);
    let ids = [story.id("a"), story.id("forbidden")];
    story.commands();
    story.topics.refused(story.now, &ids);
    assert_eq!(story.commands(), ["subscribe a", "subscribe forbidden"]);
    story.topics.refused(story.now, &ids[1..]);
    assert_eq!(story.lines(), ["0: refuse 2 Unavailable"]);
    story.answer_counts();
    assert_eq!(story.topics.find(&key("forbidden")), None);
    story.confirm("a");
    assert_eq!(story.lines(), ["0: admit 1"]);
}

#[test]
fn one_gap_a_worker_after_the_last_topic_is_heard_again() {
    let mut story = Story::with("a");
    story.ask(1, "b", 2);
    story.confirm("b");
    story.ask(0, "lingers", 3);
    story.confirm("lingers");
    story.leave(0, "lingers");
    story.commands();
    story.lines();
    story.topics.link_down(story.now);
    story.ask(0, "a", 4);
    story.ask(0, "new", 5);
    assert_eq!((story.commands(), story.lines()), (vec![], vec![]));
    assert_eq!(story.topics.find(&key("lingers")), None);
    story.topics.link_up();
    assert_eq!(story.commands(), ["subscribe a b new"]);
    story.confirm("b");
    assert_eq!(story.lines(), NOTHING);
    story.confirm("a");
    assert_eq!(story.lines(), ["0: linkgap", "1: linkgap", "0: admit 4"]);
    story.confirm("new");
    assert_eq!(story.lines(), ["0: admit 5"]);
}

#[test]
fn a_second_cut_before_the_first_is_told_makes_one_gap_and_a_refusal_does_not_hold_it_up() {
    let mut story = Story::with("a");
    story.topics.link_down(story.now);
    story.topics.link_up();
    story.topics.link_down(story.now);
    story.topics.link_up();
    assert_eq!(story.commands(), ["subscribe a"]);
    let id = story.id("a");
    story.topics.refused(story.now, &[id]);
    assert_eq!(story.lines(), ["0: a gap", "0: linkgap", "1: linkgap"]);
    // The admitted one stays so, and the next who asks has it tried again.
    story.ask(1, "a", 2);
    assert_eq!(story.commands(), ["subscribe a"]);
    story.confirm("a");
    story.say("a", "x");
    assert_eq!(story.lines(), ["0: a gap", "1: admit 2", "0: a x", "1: a x"], "what was said meanwhile is lost too");
}

#[test]
fn a_forbidden_topic_that_is_still_wanted_is_tried_again_from_time_to_time() {
    let mut story = Story::with("a");
    story.topics.link_down(story.now);
    story.topics.link_up();
    story.commands();
    let id = story.id("a");
    story.topics.refused(story.now, &[id]);
    story.lines();
    story.topics.beat(story.now);
    assert_eq!(story.commands(), [""; 0]);
    story.now += RETRY_REFUSED;
    story.topics.beat(story.now);
    assert_eq!(story.commands(), ["subscribe a"]);
    story.topics.refused(story.now, &[id]);
    assert_eq!(story.lines(), [""; 0], "the gap was told");
    story.now += RETRY_REFUSED;
    story.topics.beat(story.now);
    story.confirm("a");
    assert_eq!(story.lines(), ["0: a gap"]);
}

#[test]
fn an_error_that_says_nothing_of_the_names_is_asked_again_at_the_next_beat() {
    let mut story = Story::linked();
    story.ask(0, "a", 1);
    assert_eq!(story.commands(), ["subscribe a"]);
    let id = story.id("a");
    story.topics.postpone(vec![id]);
    assert_eq!(story.lines(), [""; 0]);
    story.topics.beat(story.now);
    assert_eq!(story.commands(), ["subscribe a"]);
    story.confirm("a");
    assert_eq!(story.lines(), ["0: admit 1"]);
}

#[test]
fn a_leave_while_the_link_is_down_forgets_the_topic() {
    let mut story = Story::with("a");
    story.topics.link_down(story.now);
    story.leave(0, "a");
    story.topics.link_up();
    assert_eq!((story.commands(), story.lines()), (vec![], vec!["0: linkgap".to_owned(), "1: linkgap".to_owned()]));
}

fn entered(number: u64, users: Option<&[&str]>) -> Answer {
    let version = Version { epoch: "e".into(), number };
    let snapshot = users.map(|users| Snapshot {
        version: version.clone(),
        users: users.iter().map(|user| ((*user).into(), None)).collect(),
        removals_in: Duration::ZERO,
    });
    Answer::Entered { version, added: true, snapshot }
}

#[test]
fn a_member_enters_after_the_confirmation_and_is_admitted_after_the_reply() {
    let mut story = Story::linked();
    story.ask_member(0, "presence-a", 1, "ann");
    assert_eq!(story.commands(), ["subscribe presence-a"]);
    story.confirm("presence-a");
    assert_eq!((story.commands(), story.lines()), (vec!["enter ann".to_owned()], vec![]));
    let id = story.id("presence-a");
    story.topics.answered(story.now, id, About::User("ann".into()), entered(5, Some(&["ann", "bob"])));
    assert_eq!(story.lines(), ["0: admit 1"]);
    // The second socket costs the store nothing; another user's joins come before his admission.
    story.ask_member(1, "presence-a", 2, "ann");
    story.ask_member(1, "presence-a", 3, "eve");
    assert_eq!((story.commands(), story.lines()), (vec!["enter eve".to_owned()], vec!["1: admit 2".to_owned()]));
    story.topics.answered(story.now, id, About::User("eve".into()), entered(6, None));
    assert_eq!(story.lines(), ["0: +eve", "1: +eve", "1: admit 3"]);
    story.topics.exit(story.now, &key("presence-a"), &"ann".into());
    assert_eq!(story.commands(), NOTHING);
    story.topics.exit(story.now, &key("presence-a"), &"ann".into());
    assert_eq!(story.commands(), ["exit ann"]);
}

#[test]
fn a_full_channel_refuses_that_user_and_rests() {
    let mut story = Story::linked();
    story.ask_member(0, "presence-a", 1, "ann");
    story.confirm("presence-a");
    let id = story.id("presence-a");
    story.commands();
    story.topics.answered(story.now, id, About::User("ann".into()), Answer::Full);
    assert_eq!(story.lines(), ["0: refuse 1 MembersFull"]);
    story.pass(LINGER);
    assert_eq!(story.commands(), ["unsubscribe presence-a"]);
}

#[test]
fn an_exit_while_redis_is_away_is_made_up_for() {
    let mut story = Story::linked();
    story.ask_member(0, "presence-a", 1, "ann");
    story.confirm("presence-a");
    let id = story.id("presence-a");
    story.topics.answered(story.now, id, About::User("ann".into()), entered(5, Some(&["ann"])));
    story.topics.link_down(story.now);
    story.commands();
    story.topics.exit(story.now, &key("presence-a"), &"ann".into());
    story.leave(0, "presence-a");
    assert!(story.topics.has_exits());
    story.topics.link_up();
    assert_eq!(story.commands(), NOTHING, "not before the store is up");
    story.topics.store_up(story.now, None, Renewal::None);
    assert_eq!(story.commands(), ["exit ann"]);
    story.topics.answered(story.now, id, About::User("ann".into()), Answer::Exited);
    assert!(!story.topics.has_exits());
    assert_eq!(story.topics.find(&key("presence-a")), None);
}

#[test]
fn a_user_who_comes_back_within_the_grace_was_never_away() {
    let mut story = Story::linked();
    story.grace = Duration::from_secs(3);
    story.ask_member(0, "presence-a", 1, "ann");
    story.commands();
    story.confirm("presence-a");
    let id = story.id("presence-a");
    story.commands();
    story.topics.answered(story.now, id, About::User("ann".into()), entered(5, Some(&["ann"])));
    assert_eq!(story.lines(), ["0: admit 1"]);
    let leave = |story: &mut Story| {
        story.topics.exit(story.now, &key("presence-a"), &"ann".into());
        story.leave(0, "presence-a");
    };
    leave(&mut story);
    story.pass(Duration::from_secs(1));
    story.ask_member(0, "presence-a", 2, "ann");
    story.answer_counts();
    assert_eq!((story.commands(), story.lines()), (vec![], vec!["0: admit 2".to_owned()]));
    story.pass(Duration::from_secs(9));
    assert_eq!(story.commands(), NOTHING, "the old grace is void");
    leave(&mut story);
    assert_eq!(story.topics.deadline(), Some(story.now + LINGER));
    story.pass(LINGER);
    assert_eq!(story.commands(), ["unsubscribe presence-a"]);
    assert!(story.topics.has_exits());
    story.pass(Duration::from_secs(1));
    assert_eq!(story.commands(), ["exit ann"]);
}
