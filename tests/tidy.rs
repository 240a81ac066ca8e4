//! The laws of the house as tests: who may import whom, what a file is called and begins with, what stays absent.
//!
//! `the_house_in_numbers` only prints; it is how sprawl is seen before it hurts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source;

/// A crate's doors: what its sources may import, and which crates of ours not even its tests may.
struct Doors {
    folder: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

#[rustfmt::skip]
const DOORS: [Doors; 9] = [
    Doors { folder: "crates/model", may: &["bytes", "serde", "serde_json", "hmac", "sha2", "md-5", "hex"],
        never: &["dialects", "backplane", "hub", "server", "fanfare-publisher", "tokio"] },
    Doors { folder: "crates/dialects", may: &["model", "serde", "serde_json"],
        never: &["backplane", "hub", "server", "fanfare-publisher", "tokio"] },
    Doors { folder: "crates/backplane", may: &["model", "bytes", "tokio", "tracing", "redis", "deadpool-redis", "futures-util",
        "rustls", "serde", "serde_json"], never: &["dialects", "hub", "server", "fanfare-publisher"] },
    Doors { folder: "crates/hub", may: &["model", "backplane", "bytes", "rustls", "tokio", "tracing"],
        never: &["dialects", "server", "fanfare-publisher", "redis", "hyper", "prometheus", "config"] },
    Doors { folder: "crates/server", may: &["model", "dialects", "backplane", "hub", "fanfare-publisher", "anyhow", "bytes",
        "clap", "config", "form_urlencoded", "futures-util", "httparse", "http-body-util", "hyper", "hyper-rustls", "hyper-util", "percent-encoding", "prometheus", "rlimit", "rustls", "serde", "serde_json",
        "socket2", "tokio", "tokio-rustls", "tokio-tungstenite", "toml", "tracing", "tracing-subscriber", "x509-cert"],
        never: &["redis", "deadpool-redis"] },
    Doors { folder: "crates/publisher", may: &["model", "bytes", "http-body-util", "hyper", "hyper-util", "redis", "rustls",
        "rustls-native-certs", "serde_json", "tokio", "tokio-rustls", "webpki-roots"], never: &["dialects", "backplane", "hub", "server"] },
    Doors { folder: "crates/bench", may: &["anyhow", "clap", "fanfare-publisher", "futures-util", "hdrhistogram", "nix",
        "plotters", "rlimit", "serde_json", "tokio", "tokio-tungstenite"], never: &["dialects", "backplane", "hub", "server"] },
    Doors { folder: "crates/xtask", may: &[],
        never: &["model", "dialects", "backplane", "hub", "server", "fanfare-publisher"] },
    Doors { folder: "tests", may: &[],
        never: &["dialects", "backplane", "hub", "server"] },
];

/// Words of client families and of Redis, which the hub must not know.
const NOT_IN_THE_HUB: [&str; 8] =
    ["redis", "pusher", "phoenix", "socket.io", "socketio", "actioncable", "engine.io", "serde_json"];

const NO_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

/// A function longer than this is listed.
const SCREEN: usize = 60;

#[test]
fn each_crate_imports_only_through_its_doors() {
    let mut wrong = Vec::new();
    for doors in &DOORS {
        for (section, import) in imports(&read(&root().join(doors.folder).join("Cargo.toml"))) {
            let may = section == "dev-dependencies" || doors.may.contains(&import);
            if !may || doors.never.contains(&import) {
                wrong.push(format!("{} [{section}] {import}", doors.folder));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that the table in tests/tidy.rs does not allow: {wrong:#?}");
}

#[test]
fn every_crate_has_its_doors() {
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    let unknown: Vec<String> = folders
        .map(|name| format!("crates/{}", name.to_string_lossy()))
        .filter(|folder| !DOORS.iter().any(|doors| doors.folder == folder))
        .collect();
    assert!(unknown.is_empty(), "crates without a row in tests/tidy.rs: {unknown:?}");
}

#[test]
fn the_hub_knows_no_dialect_and_no_redis() {
    let mut found = Vec::new();
    let of_the_hub =
        |file: &PathBuf| file.starts_with(root().join("crates/hub/src")) && !short(file).ends_with("_tests.rs");
    for file in rust_files().filter(of_the_hub) {
        // A comment may say what the code does not know, and a test may make an app with all its fields.
        let code = |(_, text): &(usize, &str)| !text.trim_start().starts_with("//");
        for (line, text) in source::without_tests(&read(&file)).lines().enumerate().filter(code) {
            let text = text.to_lowercase();
            found
                .extend(NOT_IN_THE_HUB.iter().filter(|word| text.contains(*word)).map(|word| place(&file, line, word)));
        }
    }
    assert!(found.is_empty(), "the hub's sources name what the hub must not know: {found:#?}");
}

#[test]
fn each_file_begins_with_what_it_is_for() {
    let bare: Vec<String> =
        rust_files().filter(|file| !read(file).starts_with("//! ")).map(|file| short(&file)).collect();
    assert!(bare.is_empty(), "files without a module doc (`//! …` on the first line): {bare:#?}");
}

#[test]
fn nothing_is_named_for_being_left_over() {
    let left_over = |file: &PathBuf| {
        let path = file.strip_prefix(root()).unwrap();
        path.iter().any(|part| NO_NAMES.contains(&Path::new(part).file_stem().unwrap().to_str().unwrap()))
    };
    let found: Vec<String> = files().filter(left_over).map(|file| short(&file)).collect();
    assert!(found.is_empty(), "a name that says nothing: {found:#?}");
}

#[test]
fn each_allow_has_its_reason_beside_it() {
    // Spelled in two parts, so that this file does not find itself.
    let marks = ["allow(", "expect("].map(|word| (format!("#[{word}"), format!("#![{word}")));
    let mut bare = Vec::new();
    for file in rust_files() {
        let text = read(&file);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if marks.iter().any(|(inner, outer)| line.contains(inner) || line.contains(outer)) {
                println!("{}", place(&file, at, line.trim()));
                let before = at > 0 && lines[at - 1].trim_start().starts_with("//");
                let reasoned =
                    before || line.contains("//") || lines[at..].iter().take(5).any(|l| l.contains("reason ="));
                bare.extend((!reasoned).then(|| place(&file, at, line.trim())));
            }
        }
    }
    assert!(bare.is_empty(), "a lint is switched off without a reason beside it: {bare:#?}");
}

#[test]
fn nothing_unfinished_and_no_secret_is_checked_in() {
    let marks = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["PRIVATE", " KEY-----"],
        ["\"resol", "ved\": \"http"],
    ]
    .map(|parts| parts.concat());
    let mut found = Vec::new();
    for file in files() {
        // Pictures and the like hold no text.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (at, line) in text.lines().enumerate() {
            found.extend(marks.iter().filter(|mark| line.contains(*mark)).map(|mark| place(&file, at, mark)));
        }
    }
    assert!(found.is_empty(), "unfinished work or a secret: {found:#?}");
}

#[test]
fn the_house_in_numbers() {
    let mut functions = Vec::new();
    let mut lengths = Vec::new();
    let mut crates: BTreeMap<String, usize> = BTreeMap::new();
    for file in rust_files() {
        let text = read(&file);
        let lines = text.lines().count();
        lengths.push((lines, short(&file)));
        let path = file.strip_prefix(root()).unwrap();
        let owner: PathBuf = path.iter().take(if path.starts_with("crates") { 2 } else { 1 }).collect();
        *crates.entry(owner.display().to_string()).or_default() += lines;
        let named = |(name, length)| (length, format!("{}: {name}", short(&file)));
        functions.extend(source::functions(source::without_tests(&text)).into_iter().map(named));
    }
    println!("functions over {SCREEN} lines: {}", functions.iter().filter(|(length, _)| *length > SCREEN).count());
    print_longest("functions", functions);
    print_longest("files", lengths);
    println!("lines of Rust, tests included:");
    crates.iter().for_each(|(name, lines)| println!("{lines:7} {name}"));
    println!("{:7} in all", crates.values().sum::<usize>());
    println!("locked packages: {}", read(&root().join("Cargo.lock")).matches("[[package]]").count());
}

fn print_longest(what: &str, mut found: Vec<(usize, String)>) {
    found.sort_by(|a, b| b.cmp(a));
    println!("the longest {what}:");
    found.iter().take(10).for_each(|(length, name)| println!("{length:7} {name}"));
}

/// Each table of dependencies in a manifest with each name in it.
fn imports(manifest: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end().trim_end_matches(']');
        } else if section.ends_with("dependencies") && line.starts_with(|c: char| c.is_alphabetic()) {
            found.push((section, line.split(['.', ' ', '=']).next().unwrap()));
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn short(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

fn place(file: &Path, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", short(file), line + 1)
}

fn rust_files() -> impl Iterator<Item = PathBuf> {
    files().filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
}

/// All files of the workspace but what is built, downloaded or git's own.
fn files() -> impl Iterator<Item = PathBuf> {
    let mut open = vec![root()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            if entry.file_type().unwrap().is_file() {
                found.push(entry.path());
            } else if !["target", "node_modules", ".git"].iter().any(|skipped| name == *skipped) {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found.into_iter()
}
