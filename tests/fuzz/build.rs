//! Lists the node's sources for `targets/http.rs`: its crate is a binary, whose modules are read in by path, all that its
//! `main.rs` names.

use std::path::Path;
use std::{env, fs};

fn main() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/server/src");
    let text = fs::read_to_string(sources.join("main.rs")).expect("the node's main.rs");
    println!("cargo::rerun-if-changed={}", sources.join("main.rs").display());
    let mut list = String::new();
    for name in text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        let (file, folder) = (sources.join(format!("{name}.rs")), sources.join(name).join("mod.rs"));
        let path = if file.exists() { file } else { folder };
        // A target uses a part of it only.
        list += &format!("#[allow(dead_code, unused_imports)]\n#[path = {path:?}]\nmod {name};\n");
    }
    let out = env::var_os("OUT_DIR").expect("cargo names it");
    fs::write(Path::new(&out).join("node.rs"), list).expect("cargo's folder can be written to");
}
