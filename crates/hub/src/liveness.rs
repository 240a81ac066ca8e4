//! Who is silent, and who is dead.
//!
//! A wheel of one-second places: a connection stands in one of them and is looked at only when that second comes, so the
//! cost is one look a connection and activity timeout, not one a second.

use std::rc::Rc;

use model::{Heartbeat, Reason};

use crate::connection::Connection;
use crate::shard::Shard;

/// Places of the wheel. A later deadline is looked at early and put back.
const PLACES: u32 = 128;

/// Names a connection without holding it: a weak pointer would keep the memory of one that is gone until its second comes.
type Name = (u32, u32);

fn name(connection: &Connection) -> Name {
    (connection.slot, connection.id.sequence())
}

#[derive(Default)]
pub(crate) struct Wheel {
    places: Vec<Vec<Name>>,
    /// The last second that was worked off.
    done: u32,
}

impl Wheel {
    /// Looks at the connection at this second, or as near before it as the wheel reaches.
    pub(crate) fn put(&mut self, connection: &Connection, second: u32) {
        if self.places.is_empty() {
            self.places.resize_with(PLACES as usize, Vec::new);
        }
        let second = second.clamp(self.done + 1, self.done + PLACES - 1);
        self.places[(second % PLACES) as usize].push(name(connection));
    }

    /// The connections of the next second that has come, if one has.
    fn next(&mut self, now: u32) -> Option<Vec<Name>> {
        if self.done >= now || self.places.is_empty() {
            self.done = self.done.max(now);
            return None;
        }
        self.done += 1;
        Some(std::mem::take(&mut self.places[(self.done % PLACES) as usize]))
    }
}

/// What silence asks for.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    /// Look again at that second.
    Wait(u32),
    /// Ask, and look again at that second.
    Ping(u32),
    Dead,
}

fn judge(seen: u32, pinged: bool, heartbeat: Heartbeat, now: u32) -> Verdict {
    let silent = now.saturating_sub(seen);
    if silent >= heartbeat.dead_after {
        Verdict::Dead
    } else if heartbeat.always {
        Verdict::Ping((seen + heartbeat.dead_after).min(now + heartbeat.ping_after))
    } else if silent < heartbeat.ping_after {
        Verdict::Wait(seen + heartbeat.ping_after)
    } else if pinged {
        Verdict::Wait(seen + heartbeat.dead_after)
    } else {
        Verdict::Ping(seen + heartbeat.dead_after)
    }
}

impl Shard {
    /// Asks the silent and closes the dead. `now`: whole seconds since the worker began.
    pub(crate) fn tick(&mut self, now: u32) {
        self.shared.now.set(now);
        self.stats.seconds.set(now.into());
        while let Some(place) = self.wheel.next(now) {
            for known in place {
                let connection = self.connections.get(known.0).filter(|connection| name(connection) == known).cloned();
                if let Some(connection) = connection {
                    self.look_at(&connection, now);
                }
            }
        }
        self.settle();
    }

    fn look_at(&mut self, connection: &Rc<Connection>, now: u32) {
        if connection.closing().is_some() {
            return;
        }
        if connection.is_held() {
            // We do not listen, so its silence means nothing.
            connection.seen.set(now);
        }
        let heartbeat = connection.heartbeat();
        match judge(connection.seen.get(), connection.pinged.get(), heartbeat, now) {
            Verdict::Wait(second) => self.wheel.put(connection, second),
            Verdict::Ping(second) => {
                connection.send_own(&connection.spell_beat());
                connection.pinged.set(true);
                self.wheel.put(connection, second);
            }
            Verdict::Dead => self.doom(connection, Reason::PongTimeout.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silent_are_asked_once_and_then_given_up() {
        let heartbeat = Heartbeat { ping_after: 30, dead_after: 60, always: false };
        let check = |seen, pinged, now, expected| assert_eq!(judge(seen, pinged, heartbeat, now), expected);
        check(0, false, 29, Verdict::Wait(30));
        check(0, false, 30, Verdict::Ping(60));
        check(0, true, 45, Verdict::Wait(60));
        check(0, true, 60, Verdict::Dead);
        check(20, false, 30, Verdict::Wait(50));
    }

    #[test]
    fn who_waits_for_the_question_is_asked_however_much_it_says() {
        let heartbeat = Heartbeat { ping_after: 25, dead_after: 45, always: true };
        let check = |seen, now, expected| assert_eq!(judge(seen, false, heartbeat, now), expected);
        check(25, 25, Verdict::Ping(50));
        check(1, 25, Verdict::Ping(46));
        check(1, 46, Verdict::Dead);
    }
}
