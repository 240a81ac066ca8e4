//! The apps that the node serves now: read for each request, replaced whole when the settings are read anew.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use model::{App, Apps, Secret};

use crate::door::Pair;
use crate::settings::NamedApp;

/// All apps of one reading of the settings.
pub(crate) struct Served {
    pub(crate) apps: Apps,
    by_id: HashMap<Arc<str>, Arc<NamedApp>>,
    /// By the id that a user of laravel-echo-server's HTTP API calls it.
    by_echo_id: HashMap<Box<str>, (Arc<NamedApp>, Secret)>,
}

impl Served {
    pub(crate) fn new(apps: &[NamedApp]) -> Self {
        let named: Vec<Arc<NamedApp>> = apps.iter().cloned().map(Arc::new).collect();
        let keys = |app: &Arc<NamedApp>| {
            let app = app.clone();
            app.echo_clients.clone().into_iter().map(move |(id, key)| (id, (app.clone(), key)))
        };
        Self {
            apps: Apps::new(apps.iter().map(|named| named.app.clone())),
            by_echo_id: named.iter().flat_map(keys).collect(),
            by_id: named.into_iter().map(|named| (named.app.id.clone(), named)).collect(),
        }
    }

    /// The app that this id of laravel-echo-server's means, and the key that goes with it.
    pub(crate) fn echo_client(&self, id: &str) -> Option<&(Arc<NamedApp>, Secret)> {
        self.by_echo_id.get(id)
    }

    /// The app that a query names by `app_key`, else the first.
    pub(crate) fn asked_for(&self, query: &[Pair<'_>]) -> Option<&Arc<NamedApp>> {
        let app = match query.iter().find(|(name, _)| name == "app_key") {
            Some((_, key)) => self.apps.by_key(key),
            None => self.apps.first(),
        };
        app.and_then(|app| self.named(app))
    }

    /// What the settings say of an app beside the app itself.
    pub(crate) fn named(&self, app: &App) -> Option<&Arc<NamedApp>> {
        self.by_id.get(&app.id)
    }
}

pub(crate) struct Directory(RwLock<Arc<Served>>);

impl Directory {
    pub(crate) fn new(apps: &[NamedApp]) -> Self {
        Self(RwLock::new(Arc::new(Served::new(apps))))
    }

    pub(crate) fn now(&self) -> Arc<Served> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, served: Arc<Served>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = served;
    }
}
