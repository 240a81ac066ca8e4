//! Every scenario against a real node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A node that ends with its test.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start() -> Self {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/fanfare");
        let binary = std::env::var_os("FANFARE_BIN").map_or(built, PathBuf::from);
        let mut command = Command::new(&binary);
        command.env("FANFARE_SERVER__LISTEN", "127.0.0.1:0").env("FANFARE_SERVER__ADMIN", "127.0.0.1:0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo build --release -p server` makes it", binary.display())
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.map(Result::unwrap).find(|line| line.starts_with("listening client=")).unwrap();
        let address = line.split(['=', ' ']).nth(2).unwrap();
        Self { url: format!("http://{address}"), child }
    }

    /// Runs a scenario; what it kept.
    fn bench(&self, words: &[&str]) -> Value {
        let kept = std::env::temp_dir().join(format!("fanfare-bench-{}-{}.jsonl", std::process::id(), words[0]));
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare-bench"))
            .args(words)
            .args(["--to", &self.url, "--pid", &self.child.id().to_string(), "--json"])
            .arg(&kept)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let line = fs::read_to_string(&kept).unwrap();
        fs::remove_file(&kept).unwrap();
        let mut kept: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(kept["scenario"], words[0]);
        kept["results"].take()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_scenario_measures_a_node_and_loses_nothing() {
    let node = Node::start();
    let clients = ["--connections", "60", "--channels", "6"];
    let bench = |words: &[&str]| node.bench(&[words, &clients].concat());
    let is_positive = |results: &Value, keys: &[&str]| {
        for key in keys {
            assert!(results[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {results}");
        }
    };
    let heard = bench(&["fanout", "--rate", "100", "--seconds", "0.5"]);
    assert_eq!(heard["received"], heard["expected"]);
    is_positive(&heard, &["received", "cpu_us_per_delivery", "events_per_second", "anonymous_mib_held"]);
    assert!(heard["latency_us"]["p99.9"].as_u64() >= heard["latency_us"]["p50"].as_u64(), "{heard}");
    let heard = bench(&["fanout", "--rate", "0", "--publishers", "4", "--batch", "5", "--seconds", "0.3"]);
    assert_eq!(heard["received"], heard["expected"]);
    let published = node.bench(&["publish", "--seconds", "0.3"]);
    is_positive(&published, &["cpu_us_per_publish", "received"]);
    is_positive(&bench(&["connect"]), &["cpu_us_per_connection", "connections_per_second"]);
    is_positive(&bench(&["idle", "--seconds", "0.1"]), &["resident_mib"]);
    is_positive(&bench(&["churn", "--seconds", "0.3"]), &["changes_per_second", "cpu_us_per_change"]);
    is_positive(&bench(&["storm", "--rounds", "2"]), &["resident_mib_2"]);
}
