//! The `fanfare` binary: the only room with sockets, HTTP, settings, signals and the metrics text.

mod admin;
mod api;
mod banner;
mod door;
mod listen;
mod logs;
mod metrics;
mod node;
mod settings;
mod transport;

fn main() {
    match settings::load(&settings::Flags::default()) {
        Err(problems) => {
            eprintln!("{problems}");
            std::process::exit(2);
        }
        Ok(settings) => {
            logs::start(settings.log.format, &settings.log.level);
            if let Err(error) = node::run(settings) {
                eprintln!("fanfare: {error:#}");
                std::process::exit(1);
            }
        }
    }
}
