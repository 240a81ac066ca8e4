//! The binary.

mod logs;
mod settings;

fn main() {
    if let Err(problems) = settings::load(&settings::Flags::default()) {
        eprintln!("{problems}");
        std::process::exit(2);
    }
}
