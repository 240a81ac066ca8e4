//! .
use super::Settings;
pub(crate) fn effective(_s: &Settings) -> String {
    String::new()
}
pub(crate) fn example() -> String {
    String::new()
}
pub(crate) fn docs() -> String {
    String::new()
}
