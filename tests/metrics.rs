//! What an operator reads: exact numbers for a small scenario, health, and logs without secrets.

use crate::support::http;
use crate::support::node::SECRET;
use crate::support::prelude::*;

#[test]
fn each_family_has_a_help_and_a_type_and_no_client_in_its_labels() {
    let node = Node::start("", &[]);
    let client = Client::present(&node, "presence-room", "ann");
    let text = http::get(node.admin, "/metrics").body;
    for secret in [&*client.id, "presence-room", "ann\"", "127.0.0.1", SECRET] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    for line in text.lines().filter(|line| line.starts_with("fanfare_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let told =
            |what: &str| text.contains(&format!("# {what} {family} ")) || text.contains(&format!("# {what} {name} "));
        assert!(told("HELP") && told("TYPE"), "{name}");
    }
    assert!(text.contains("process_resident_memory_bytes"));
}
