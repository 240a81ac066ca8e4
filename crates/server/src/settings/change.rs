//! What two readings of the settings differ in.

use super::table::{self, Kind};
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
        let keys: Vec<&str> = keys.filter(differs).collect();
        (!keys.is_empty()).then(|| format!("{name} ({})", keys.join(", ")))
    };
    let both = new.apps.iter().map(|(name, _)| name).filter(|name| has(old, name));
    Changes { added: without(new, old), removed: without(old, new), changed: both.filter_map(changed).collect() }
}

/// The settings that are different and hold from the start of a process only.
pub(crate) fn for_a_restart(old: &Values, new: &Values) -> Vec<&'static str> {
    let names = table::node_rows().filter(|row| row.kind != Kind::File || row.name.starts_with("tls."));
    names.map(|row| row.name).filter(|name| old.get(name).scalar != new.get(name).scalar).collect()
}
