//! Webhooks: applications are told what happens on their channels (pusher docs, "Webhooks").
//!
//! The backplane queues what happens and gives it to one node of the cluster; here it is posted. An app has an office
//! (`office.rs`) that takes what waits; each of the app's endpoints has some lanes (`lane.rs`), and a channel has its lane,
//! so that what happened on it is told in order; `letter.rs` says what a request looks like. At least once: what nobody
//! said yes to is told again, under the same id.
//!
//! All of it runs on the control thread. An office holds a bounded number of happenings; behind an endpoint that is down
//! the rest waits in the backplane's queue.

mod lane;
mod letter;
mod office;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use backplane::Cluster;
use model::App;
use office::Office;
use tokio::time::timeout;

use crate::endpoint::Caller;
use crate::metrics::Metrics;
use crate::settings;

/// How long a node that stops waits for the answers of endpoints.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What all offices share.
struct House {
    backplane: Arc<dyn Cluster>,
    /// What is not told when the node stops waits in the backplane for another one. Else it is lost.
    outlived: bool,
    metrics: Arc<Metrics>,
    settings: settings::Webhooks,
    caller: Caller,
}

pub(crate) struct Webhooks {
    house: Rc<House>,
    offices: RefCell<HashMap<Arc<str>, Rc<Office>>>,
}

impl Webhooks {
    /// `outlived`: the backplane keeps what this node did not tell.
    pub(crate) fn new(
        backplane: Arc<dyn Cluster>,
        outlived: bool,
        metrics: Arc<Metrics>,
        settings: settings::Webhooks,
    ) -> Self {
        let caller = Caller::new(settings.lanes);
        let house = Rc::new(House { backplane, outlived, metrics, settings, caller });
        Self { house, offices: RefCell::default() }
    }

    /// The apps are these from now on. What an office holds is told to the endpoints that its app has now; what an app that
    /// is gone held is not told. Must be called in a `LocalSet`.
    pub(crate) fn set_apps<'a>(&self, apps: impl Iterator<Item = &'a Arc<App>>) {
        let mut offices = self.offices.borrow_mut();
        let mut kept = HashMap::new();
        for app in apps {
            match offices.remove(&app.id) {
                Some(office) => {
                    office.renew(app.clone());
                    kept.insert(app.id.clone(), office);
                }
                None if app.webhooks.is_empty() => {}
                None => {
                    kept.insert(app.id.clone(), Office::open(self.house.clone(), app.clone()));
                }
            }
        }
        offices.values().for_each(|office| office.end());
        *offices = kept;
    }

    /// Stops taking, and waits for requests that are under way. What is left stays in the queue of the backplane; where
    /// that ends with this node, it is told as far as the time goes, and the rest counted as lost.
    pub(crate) async fn drain(&self) {
        let offices: Vec<Rc<Office>> = self.offices.borrow().values().cloned().collect();
        offices.iter().for_each(|office| office.close());
        let all = async {
            for office in &offices {
                office.closed().await;
            }
        };
        // What is late is undone, and told again or counted below.
        let _ = timeout(LAST_WORDS, all).await;
        for office in offices {
            office.give_up().await;
        }
    }
}
