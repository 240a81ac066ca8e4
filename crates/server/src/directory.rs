//! The apps that the node serves now: read for each request, replaced whole when the settings are read anew.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use model::{App, Apps};

use crate::settings::NamedApp;

/// All apps of one reading of the settings.
pub(crate) struct Served {
    pub(crate) apps: Apps,
    by_id: HashMap<Arc<str>, Arc<NamedApp>>,
}

impl Served {
    pub(crate) fn new(apps: &[NamedApp]) -> Self {
        Self {
            apps: Apps::new(apps.iter().map(|named| named.app.clone())),
            by_id: apps.iter().map(|named| (named.app.id.clone(), Arc::new(named.clone()))).collect(),
        }
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
