//! How many requests are worked on at a time: so many in the node, and no app takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests that are worked on at a time; more are asked to come back.
const ALL: usize = 256;

/// The most of them that are one app's, where there are others.
const OF_ONE: usize = ALL / 2;

/// Bodies that are being read and events that wait for their answer, of the whole node.
#[derive(Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    all: usize,
    by_app: HashMap<Arc<str>, usize>,
}

/// One request's place; free again when it is dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    app: Arc<str>,
}

impl Places {
    /// A place for a request of the app; `None` when it has its share or all are taken. `apps`: how many the node serves.
    pub(super) fn take(&self, app: &Arc<str>, apps: usize) -> Option<Place<'_>> {
        let share = if apps > 1 { OF_ONE } else { ALL };
        let mut taken = self.taken();
        let of_app = taken.by_app.get(app).copied().unwrap_or_default();
        if taken.all >= ALL || of_app >= share {
            return None;
        }
        taken.all += 1;
        taken.by_app.insert(app.clone(), of_app + 1);
        Some(Place { places: self, app: app.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        match taken.by_app.get_mut(&self.app) {
            Some(of_app) if *of_app > 1 => *of_app -= 1,
            _ => _ = taken.by_app.remove(&self.app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_its_share_and_gives_back_what_it_took() {
        let (one, two, three): (Arc<str>, Arc<str>, Arc<str>) = ("1".into(), "2".into(), "3".into());
        let places = Places::default();
        let take = |app: &Arc<str>, apps| -> Vec<Place<'_>> { std::iter::from_fn(|| places.take(app, apps)).collect() };
        assert_eq!(take(&one, 1).len(), ALL, "alone it may have them all");
        let held = take(&one, 3);
        let of_two = take(&two, 3);
        assert_eq!((held.len(), of_two.len(), take(&three, 3).len()), (OF_ONE, OF_ONE, 0));
        drop(held);
        assert_eq!(take(&three, 3).len(), OF_ONE);
        drop(of_two);
        let left = places.taken();
        assert_eq!((left.all, left.by_app.len()), (0, 0));
    }
}
