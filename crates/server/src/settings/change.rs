//! What two readings of the settings differ in.

use super::table;
use super::value::Scalar;
use super::values::Values;

/// Names of apps as the operator calls them; `changed` with the keys in brackets.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

/// What is different about the apps.
pub(crate) fn of_apps(old: &Values, new: &Values) -> Changes {
    let has = |values: &Values, name: &String| values.apps.iter().any(|(known, _)| known == name);
    let without = |values: &Values, other: &Values| -> Vec<String> {
        values.apps.iter().map(|(name, _)| name).filter(|name| !has(other, name)).cloned().collect()
    };
    let changed = |name: &String| {
        let keys = table::app_rows().filter_map(|row| table::app_key(row.name));
        let differs = |key: &&str| {
            let name = format!("apps.{name}.{key}");
            old.get(&name).scalar != new.get(&name).scalar
        };
        let webhooks = (webhooks(old, name) != webhooks(new, name)).then_some("webhooks");
        let keys: Vec<&str> = keys.filter(differs).chain(webhooks).collect();
        (!keys.is_empty()).then(|| format!("{name} ({})", keys.join(", ")))
    };
    let both = new.apps.iter().map(|(name, _)| name).filter(|name| has(old, name));
    Changes { added: without(new, old), removed: without(old, new), changed: both.filter_map(changed).collect() }
}

/// All that is written about an app's webhooks.
fn webhooks<'a>(values: &'a Values, app: &str) -> Vec<(&'a str, Vec<&'a Option<Scalar>>)> {
    let scalars = |table| table::webhook_rows().map(move |row| &values.get(&format!("{table}.{}", row.key())).scalar);
    values.webhooks_of(app).map(|table| (table, scalars(table).collect())).collect()
}

/// The settings that are different and hold from the start of a process only.
pub(crate) fn for_a_restart(old: &Values, new: &Values) -> Vec<&'static str> {
    // What is in a file is read again for each link to Redis.
    let from_file = |name: &str| name == "redis.url" && !new.is_absent("redis.url_file");
    let names = table::node_rows().map(|row| row.name).filter(|name| !from_file(name));
    names.filter(|name| old.get(name).scalar != new.get(name).scalar).collect()
}
