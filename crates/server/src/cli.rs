//! The command line: what can be asked, and its help.
//!
//! Only words are read here. Values that are settings go to `settings` as text, so that a wrong one is told like any other;
//! what a command does is in `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::Flags;

/// What was asked for, with what the flags say about settings.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub flags: Flags,
    pub command: Command,
}

#[derive(Debug)]
pub(crate) enum Command {
    Serve,
    Publish(Publish),
    Listen(Listen),
    Health(Health),
    Probe(Probe),
    Doctor(Doctor),
    CheckConfig,
    PrintConfig(PrintConfig),
    /// A word of laravel-echo-server: what to do here instead.
    Elsewhere(&'static str),
}

/// Reads the command line. Ends the process for `--help`, `--version` and words that make no sense (exit code 2).
pub(crate) fn read() -> Invocation {
    invocation(Cli::parse())
}

fn invocation(cli: Cli) -> Invocation {
    let mut flags = Flags {
        file: cli.config,
        env_file: cli.env_file,
        echo_server: cli.laravel_echo_server,
        values: cli.overrides.values(),
    };
    let command = match cli.command {
        None => Command::Serve,
        Some(Sub::Serve(overrides)) => {
            flags.values.extend(overrides.values());
            Command::Serve
        }
        Some(Sub::CheckConfig(overrides)) => {
            flags.values.extend(overrides.values());
            Command::CheckConfig
        }
        Some(Sub::PrintConfig(print)) => {
            flags.values.extend(print.overrides.values());
            Command::PrintConfig(print)
        }
        Some(Sub::Publish(publish)) => Command::Publish(publish),
        Some(Sub::Listen(listen)) => Command::Listen(listen),
        Some(Sub::Health(health)) => Command::Health(health),
        Some(Sub::Probe(probe)) => Command::Probe(probe),
        Some(Sub::Doctor(doctor)) => {
            flags.values.extend(doctor.overrides.values());
            Command::Doctor(doctor)
        }
        Some(Sub::Init(_)) => Command::Elsewhere(INIT),
        Some(Sub::Start(_)) => Command::Elsewhere(START),
        Some(Sub::Stop(_)) => Command::Elsewhere(STOP),
        Some(Sub::ClientAdd(_) | Sub::ClientRemove(_)) => Command::Elsewhere(CLIENTS),
    };
    Invocation { flags, command }
}

const INIT: &str = "there is no `init`: `fanfare print-config --defaults > fanfare.toml` writes a file to change, and \
                    laravel-echo-server.json is read as it is: fanfare --laravel-echo-server laravel-echo-server.json";
const START: &str = "there is no `start`: `fanfare` alone runs a node, in the foreground; with the old settings: fanfare \
                     --laravel-echo-server laravel-echo-server.json";
const STOP: &str = "there is no `stop`: end a node by SIGTERM, which closes its connections little by little: systemctl stop, \
                    docker stop, or kill with its number";
const CLIENTS: &str = "there are no `client:` commands: write ids and keys in the settings, echo_clients = [\"APPID:KEY\"] \
                       below [apps.main], or in laravel-echo-server.json; they are read again while the node runs";

/// A WebSocket pub/sub cluster that joins over Redis and speaks Pusher
#[derive(Parser, Debug)]
#[command(
    name = "fanfare",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  fanfare                                       a node by itself, on 127.0.0.1:8080
  fanfare --redis-url redis://127.0.0.1:6379    a node of a cluster
  fanfare --env-file /srv/shop/.env             a node for a Laravel application
  fanfare publish orders shipped '{\"id\":7}'     say something to whoever listens to `orders`
  fanfare listen orders                         hear it
  fanfare doctor --config fanfare.toml          find what is wrong between Laravel, Redis and nodes
  fanfare check-config --config fanfare.toml    tell all that is wrong with a file

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 cannot reach the other side,
            4 refused by the other side"
)]
struct Cli {
    /// Read settings from this file [default: ./fanfare.toml, if there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Read Laravel's own .env too; the settings file wins over it
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Read laravel-echo-server.json too; all others win over it
    #[arg(long, global = true, value_name = "FILE")]
    laravel_echo_server: Option<PathBuf>,

    #[command(flatten)]
    overrides: Overrides,

    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Subcommand, Debug)]
enum Sub {
    /// Run a node (what `fanfare` alone does)
    #[command(after_help = "\
Examples:
  fanfare serve
  fanfare serve --config /etc/fanfare.toml
  fanfare serve --listen 127.0.0.1:0 --admin 127.0.0.1:0    on free ports, told by the first line
  FANFARE_REDIS__URL=redis://127.0.0.1:6379 fanfare serve

SIGTERM drains: no new connections, the open ones are closed little by little. SIGINT does it at
once. A second signal ends the process.")]
    Serve(Overrides),
    Publish(Publish),
    Listen(Listen),
    Health(Health),
    Probe(Probe),
    Doctor(Doctor),
    /// Read all settings and tell what is wrong; starts nothing
    #[command(after_help = "\
Examples:
  fanfare check-config
  fanfare check-config --config new.toml && mv new.toml fanfare.toml
  fanfare check-config --env-file .env          also tell what is understood of Laravel's .env

Exit codes: 0 a node would start (warnings are told), 2 it would not")]
    CheckConfig(Overrides),
    PrintConfig(PrintConfig),

    // Words that hands are used to.
    #[command(hide = true)]
    Init(Words),
    #[command(hide = true)]
    Start(Words),
    #[command(hide = true)]
    Stop(Words),
    #[command(hide = true, name = "client:add")]
    ClientAdd(Words),
    #[command(hide = true, name = "client:remove")]
    ClientRemove(Words),
}

/// Whatever stands behind a word that is only answered.
#[derive(Args, Debug)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

/// The settings that have a flag. All are text here: the settings check them.
#[derive(Args, Debug)]
struct Overrides {
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Settings")]
    listen: Option<String>,

    /// Where metrics and health are served [default: 127.0.0.1:9601]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Settings")]
    admin: Option<String>,

    /// Threads that serve clients; 0: one a core [default: 0]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    workers: Option<String>,

    /// What joins the nodes; `ps` shows it, unlike FANFARE_REDIS__URL
    #[arg(long, value_name = "URL", help_heading = "Settings")]
    redis_url: Option<String>,

    /// auto, human or json [default: auto]
    #[arg(long, value_name = "FORMAT", help_heading = "Settings")]
    log_format: Option<String>,

    /// error, warn, info, debug, trace, info,hub=debug [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Settings")]
    log_level: Option<String>,
}

impl Overrides {
    fn values(&self) -> Vec<(&'static str, &'static str, String)> {
        let all = [
            ("--listen", "server.listen", &self.listen),
            ("--admin", "server.admin", &self.admin),
            ("--workers", "server.workers", &self.workers),
            ("--redis-url", "redis.url", &self.redis_url),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
        ];
        all.into_iter().filter_map(|(flag, name, text)| Some((flag, name, text.clone()?))).collect()
    }
}

/// Publish an event, or one for each line of standard input
///
/// The app's key and secret come from the settings, as for a node.
#[derive(Args, Debug)]
#[command(override_usage = "\
fanfare publish [OPTIONS] <CHANNEL> <EVENT> [DATA]
       fanfare publish [OPTIONS] --lines")]
#[command(after_help = "\
Examples:
  fanfare publish orders shipped '{\"id\":7}'
  fanfare publish orders note hello                 no JSON, so it is sent as the string \"hello\"
  fanfare publish orders shipped @order.json        data out of a file
  date | fanfare publish clock tick -               data from standard input
  fanfare publish orders shipped --to redis://127.0.0.1:6379      past the nodes, as Laravel does
  fanfare publish --lines < events.jsonl            lines like {\"channel\":\"c\",\"event\":\"e\",\"data\":1}

Certificates of https:// are checked as browsers do. SSL_CERT_FILE names the file of a private
authority; the certificate of `tls.certificate_file` itself is trusted under any name.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 cannot reach the other side,
            4 refused by the other side")]
pub(crate) struct Publish {
    /// The channel's name, without the app's prefix
    #[arg(required_unless_present = "lines", conflicts_with = "lines")]
    pub channel: Option<String>,

    /// The event's name
    #[arg(required_unless_present = "lines", conflicts_with = "lines")]
    pub event: Option<String>,

    /// JSON or text; `-`: standard input; `@FILE`: a file [default: {}]
    #[arg(conflicts_with = "lines", allow_negative_numbers = true)]
    pub data: Option<String>,

    /// Publish each line of input: JSON with channel, event, data
    #[arg(long)]
    pub lines: bool,

    /// http://host:port or https://host of a node, or redis://host:port
    /// to publish past the nodes; without it: the node at
    /// `server.listen` of the settings
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    pub to: Option<String>,

    /// The app, by its table's name or by its id [default: the first]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

/// Print the events of channels as JSON lines until the connection ends
///
/// Private and presence channels are signed with the app's secret from the settings. On a presence
/// channel the others see a member `fanfare-listen` meanwhile.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  fanfare listen orders
  fanfare listen private-user.1 presence-chat | jq .data
  fanfare listen orders --to https://ws.shop.example --app shop
  fanfare listen orders | fanfare publish --lines --to redis://10.0.0.9:6379     pass events on

Certificates of https:// are checked as browsers do. SSL_CERT_FILE names the file of a private
authority; the certificate of `tls.certificate_file` itself is trusted under any name.

Exit codes: 1 the connection ended, 2 wrong usage or settings, 3 cannot reach the node,
            4 refused by the node"
)]
pub(crate) struct Listen {
    /// The channels' names, without the app's prefix
    #[arg(required = true, value_name = "CHANNEL")]
    pub channels: Vec<String>,

    /// http://host:port or https://host of a node;
    /// without it: the node at `server.listen` of the settings
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    pub to: Option<String>,

    /// The app, by its table's name or by its id [default: the first]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

/// Ask a node whether it may take traffic
///
/// For health checks where there is no curl and no shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  fanfare health                                  the node of these settings: is it ready?
  fanfare health --live                           does it turn, with or without Redis?
  fanfare health --to http://10.0.0.7:9601        another node
  until fanfare health; do sleep 1; done          wait for one

Exit codes: 0 yes, 1 no (it says why), 2 wrong usage or settings, 3 cannot reach the node")]
pub(crate) struct Health {
    /// Ask `/live` instead of `/ready`
    #[arg(long)]
    pub live: bool,

    /// http://host:port of an admin port [default: of the settings]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
}

/// Publish one event, hear it back, and tell how long that took
///
/// On a channel of its own. The app's key and secret come from the settings, as for a node.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  fanfare probe                                                   the node of these settings
  fanfare probe --to http://10.0.0.7:8080                         another node, or a load balancer
  fanfare probe --to http://10.0.0.7:8080 --hear http://10.0.0.8:8080    from one node to another
  fanfare probe --to redis://10.0.0.9:6379 --hear http://10.0.0.8:8080   as Laravel publishes
  fanfare probe --to https://ws.shop.example                      the way that clients go

Certificates of https:// are checked as browsers do. SSL_CERT_FILE names the file of a private
authority; the certificate of `tls.certificate_file` itself is trusted under any name.

Exit codes: 0 heard, 1 not heard, 2 wrong usage or settings, 3 cannot reach, 4 refused")]
pub(crate) struct Probe {
    /// http://host:port or https://host of a node, or redis://host:port
    /// to publish past the nodes; without it: the node at
    /// `server.listen` of the settings
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    pub to: Option<String>,

    /// The node that listens, as for --to [default: the same]
    #[arg(long, value_name = "URL")]
    pub hear: Option<String>,

    /// The app, by its table's name or by its id [default: the first]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

/// Find what is wrong between Laravel, Redis and nodes, and which line to change
///
/// Reads the settings as a node does and changes nothing. One line a finding: ok, note, BAD, or skip
/// where it needs what is bad.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  fanfare doctor
  fanfare doctor --config /etc/fanfare.toml --public wss://ws.shop.example
  fanfare doctor --watch 60          have Laravel broadcast something meanwhile
  fanfare doctor --watch 0           do not wait for events
  fanfare doctor --redis-url redis://:PASSWORD@10.0.0.9 --node http://10.0.0.7:8080
  fanfare doctor --json | jq 'select(.verdict == \"bad\")'

Exit codes: 0 nothing is bad, 1 something is, 2 wrong usage or settings"
)]
pub(crate) struct Doctor {
    /// How long to watch what is published; 0: do not
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub watch: u64,

    /// http://host:port of a node [default: as in the settings]
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,

    /// wss://host or ws://host that browsers use, through the proxy
    #[arg(long, value_name = "URL")]
    pub public: Option<String>,

    /// Print one JSON object a finding: check, verdict, text, change
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    overrides: Overrides,
}

/// Print the settings in force, each with where it came from; secrets are masked
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  fanfare print-config
  fanfare print-config | grep environment             what comes from the environment
  fanfare print-config --defaults > fanfare.toml      a file to begin with
  fanfare print-config --docs > configuration.md

Exit codes: 0 done, 2 wrong usage or settings")]
pub(crate) struct PrintConfig {
    /// Print an example file with all defaults instead
    #[arg(long, conflicts_with = "docs")]
    pub defaults: bool,

    /// Print the documentation of all settings, in Markdown, instead
    #[arg(long)]
    pub docs: bool,

    #[command(flatten)]
    overrides: Overrides,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Invocation, clap::Error> {
        Cli::try_parse_from(std::iter::once("fanfare").chain(line.split_whitespace())).map(invocation)
    }

    #[test]
    fn every_help_is_narrow_and_ends_with_examples() {
        let mut top = Cli::command();
        top.build();
        let mut all: Vec<clap::Command> =
            top.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
        all.push(top);
        for mut command in all {
            let help = command.render_long_help().to_string() + &command.render_help().to_string();
            let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(wide.is_empty(), "{}: {wide:#?}", command.get_name());
            assert!(help.contains("\nExamples:\n"), "{}", command.get_name());
            assert!(help.contains("--config <FILE>"), "{}", command.get_name());
        }
    }

    #[test]
    fn flags_become_settings_before_and_after_the_command() {
        for line in ["--listen 127.0.0.1:1 --config f.toml", "serve --listen 127.0.0.1:1 --config f.toml"] {
            let asked = parse(line).unwrap();
            assert!(matches!(asked.command, Command::Serve));
            assert_eq!(asked.flags.file.as_deref(), Some(std::path::Path::new("f.toml")));
            assert_eq!(asked.flags.values, [("--listen", "server.listen", "127.0.0.1:1".to_owned())]);
        }
        let asked = parse("--config f.toml check-config --workers 3").unwrap();
        assert_eq!(asked.flags.values, [("--workers", "server.workers", "3".to_owned())]);
        assert!(asked.flags.file.is_some());
    }

    #[test]
    fn publish_takes_one_event_or_lines() {
        let fails = |line: &str| parse(line).is_err();
        assert!(fails("publish") && fails("publish c") && fails("publish --lines c") && fails("listen"));
        assert!(fails("publish c e --data x") && fails("frobnicate"));
        for (line, data) in [("publish c e", None), ("publish c e -", Some("-")), ("publish c e -5", Some("-5"))] {
            match parse(line).unwrap().command {
                Command::Publish(publish) => assert_eq!(publish.data.as_deref(), data),
                other => panic!("{other:?}"),
            }
        }
    }
}
