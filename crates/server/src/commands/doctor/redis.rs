//! Redis: is it there, is it one that nodes can work with, and may they?

use std::time::Duration;

use backplane::redis::examine::{Examiner, Missing, Server, Unreachable, VERSION_MIN, Why};

use super::report::{Check, Report};
use super::{clock, prefix};
use crate::node;
use crate::settings::Settings;

pub(super) async fn examine(settings: &Settings, watch: u64, report: &mut Report) {
    let Some(url) = &settings.redis.url else {
        let text =
            "redis.url is not set: a node stands alone, and Laravel reaches it by the drivers pusher and reverb only";
        report.hint(
            Check::Redis,
            text,
            "redis.url = \"redis://HOST:PORT\", with REDIS_HOST and REDIS_PORT of Laravel's .env",
        );
        return;
    };
    let examiner = match Examiner::connect(&node::redis_settings(settings, url.clone())).await {
        Ok(examiner) => examiner,
        Err(unreachable) => {
            let (text, mut change) = explained(&unreachable);
            let place = settings.values.source("redis.url").place();
            if !place.is_empty() {
                change.push_str(&format!(" (the address comes from {place})"));
            }
            report.bad(Check::Redis, &text, &change);
            for check in [Check::Rights, Check::Prefix] {
                report.skip(check, "needs Redis");
            }
            return;
        }
    };
    judge_server(&examiner, &examiner.server().await, report);
    if let Some(ahead) = examiner.clock_ahead().await {
        clock::judge("Redis", ahead, report);
    }
    let prefixes: Vec<&str> = settings.apps.iter().map(|app| &*app.app.redis_prefix).collect();
    judge_rights(&examiner, &examiner.missing_rights(&prefixes).await, report);
    prefix::examine(&examiner, settings, Duration::from_secs(watch), report).await;
}

fn judge_server(examiner: &Examiner, server: &Server, report: &mut Report) {
    let place = &examiner.server;
    let version = server.version.as_deref().unwrap_or("a version that it does not tell");
    let mut is_good = true;
    let mut bad = |text: String, change: &str| {
        report.bad(Check::Redis, &text, change);
        is_good = false;
    };
    if server.is_master == Some(false) {
        let master = server.master.as_deref().unwrap_or("its master");
        let text = format!("{place} is a replica: what is published there reaches nobody else");
        bad(
            text,
            &format!("redis.url: the master, which is {master}; or redis+sentinel://HOST:26379/NAME, which finds it"),
        );
    }
    if server.is_too_old() {
        let text =
            format!("{place} is Redis {version}; {}.{} is the oldest that works", VERSION_MIN[0], VERSION_MIN[1]);
        bad(text, "Redis: install a newer one, or Valkey");
    }
    if server.is_cluster {
        bad(
            format!("{place} is a node of a Redis Cluster, which is not supported yet"),
            "redis.url: a single Redis, or Sentinel",
        );
    }
    if is_good {
        report.ok(Check::Redis, &format!("{} answers, {version}", examiner.shown));
    }
    if let Some(policy) = &server.evicts {
        let text = format!("{place} throws keys away when its memory is full ({policy}): members and histories, too");
        report.hint(
            Check::Redis,
            &text,
            "maxmemory-policy noeviction in redis.conf, or a Redis of its own for the cache",
        );
    }
    if examiner.database() != 0 {
        let text = format!(
            "the URL names database {}, which is of use for keys only: what is published is heard in all of them, so \
             REDIS_DB of Laravel does not matter",
            examiner.database()
        );
        report.note(Check::Redis, &text);
    }
}

fn judge_rights(examiner: &Examiner, missing: &Missing, report: &mut Report) {
    let user = examiner.user();
    if let Some(failed) = &missing.failed {
        report.note(Check::Rights, &format!("not all rights of the user {user} could be tried: {failed}"));
    }
    if !missing.unknown.is_empty() {
        let text = format!("{} does not know {}, which nodes use", examiner.server, missing.unknown.join(", "));
        report.bad(Check::Rights, &text, "redis.conf: no rename-command for these; or a Redis that has them");
    }
    if missing.is_nothing() {
        return report.ok(Check::Rights, &format!("the user {user} may do all that a node does"));
    }
    if missing.rules().is_empty() {
        return;
    }
    let all = [
        ("run ", missing.commands.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()),
        ("touch keys ", missing.keys.clone()),
        ("use channels ", missing.channels.clone()),
    ];
    let parts: Vec<String> = all
        .iter()
        .filter(|(_, what)| !what.is_empty())
        .map(|(verb, what)| format!("{verb}{}", what.join(", ")))
        .collect();
    let mut text = format!("the user {user} may not {}", parts.join("; nor "));
    if !missing.channels.is_empty() {
        text.push_str(" (new users have no channels since Redis 7)");
    }
    report.bad(Check::Rights, &text, &format!("ACL SETUSER {user} {}", missing.rules()));
}

/// What is in the way, and the line to change.
fn explained(unreachable: &Unreachable) -> (String, String) {
    let Unreachable { place, why } = unreachable;
    const CONTAINER: &str = "in a container 127.0.0.1 and localhost are the container itself";
    let (text, change) = match why {
        Why::Unusable(text) => return (text.clone(), "redis.url, or the file that it speaks of".to_owned()),
        Why::NoSuchHost => ("there is no host of this name".into(), format!("redis.url: the host as REDIS_HOST of Laravel names it, seen from here; {CONTAINER}")),
        Why::Refused => (
            "nobody listens there".into(),
            format!("redis.url = \"redis://HOST:PORT\", with REDIS_HOST and REDIS_PORT of Laravel's .env; {CONTAINER}"),
        ),
        Why::Silent => (
            "no answer in time".into(),
            "redis.url, or what is between: a firewall, `bind` in redis.conf, a security group".into(),
        ),
        Why::SpeaksTls => ("it speaks TLS, and the URL says plain".into(), "redis.url: rediss:// in place of redis://".into()),
        Why::SpeaksPlain => ("it speaks plain, and the URL says TLS".into(), "redis.url: redis:// in place of rediss://".into()),
        Why::Certificate(text) => (
            format!("its certificate and ours do not get along: {text}"),
            "redis.ca_file: the authority that signed it; redis.certificate_file and redis.key_file where it asks for one"
                .into(),
        ),
        Why::WantsPassword => (
            "it wants a password, and the URL has none".into(),
            "redis.url = \"redis://:PASSWORD@HOST:PORT\", with REDIS_PASSWORD of Laravel's .env".into(),
        ),
        Why::WrongPassword => (
            "it does not take this user and password".into(),
            "REDIS_USERNAME and REDIS_PASSWORD in Laravel's .env, as they are, in quotes; or redis.url, with %23 for #, %2F for /, %40 for @".into(),
        ),
        Why::Protected => (
            "it is in protected mode: without a password it talks to its own machine only".into(),
            "requirepass in redis.conf, and the same password in redis.url".into(),
        ),
        Why::NotRedis(line) if line.is_empty() => {
            ("it takes the connection and says nothing of Redis".into(), "redis.url: the port of Redis, 6379 by default".into())
        }
        Why::NotRedis(line) => {
            (format!("that is no Redis; it says {line:?}"), "redis.url: the port of Redis, 6379 by default".into())
        }
        Why::TooOld => ("it is older than Redis 6".into(), "Redis: install 6.2 or newer, or Valkey".into()),
        Why::Other(text) => (text.clone(), "redis.url, or what Redis complains of".into()),
    };
    (format!("no connection to {place}: {text}"), change)
}
