//! TLS on the port for clients: real clients over `wss://` and `https://`, certificates that change under them, and what
//! is said of files that are of no use.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::client::close_code;
use crate::support::folder::Folder;
use crate::support::http::{self, APPLICATION};
use crate::support::prelude::*;
use crate::support::tls::{Authority, Files, Pair, Tunnel};
use crate::support::wait::LIMIT;

/// A node with TLS, and the same seen through a tunnel.
fn start(redis: &str, files: &Files, authority: &Authority, more: &[(&str, &str)]) -> (Node, Tunnel) {
    let node = Node::start(redis, &[&files.settings(), more].concat());
    let tunnel = Tunnel::to(node.address, authority);
    (node, tunnel)
}

#[test]
fn pusher_js_and_the_sdk_speak_tls_with_a_node() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let trusted = files.folder.write("ca.pem", &authority.pem());
    let node = Node::start("", &files.settings());
    let mut browser = Browser::over_tls(&node, &trusted);
    browser.subscribe("private-orders.1");
    let mut api = Api::over_tls(&node, &trusted);
    api.trigger(&["private-orders.1"], "greeting", json!({ "text": "Zoë 😀" }));
    assert_eq!(browser.hears("private-orders.1", "greeting"), json!({ "text": "Zoë 😀" }));
    browser.enter("presence-room", "ann");
    browser.tell(&json!({ "do": "disconnect" }));
    browser.until(|told| told["state"] == "disconnected");
    until("the connection is gone", || (node.metric("fanfare_connections", &[]) == 0.0).then_some(()));
    let expiry = node.metric("fanfare_tls_certificate_expiry_timestamp_seconds", &[]);
    assert_eq!(expiry, 4_733_510_400.0, "the first of January 2120");
}

#[test]
fn a_client_that_reads_late_gets_all_of_it_in_order() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let more = [("FANFARE_APPS__MAIN__EVENT_BYTES", "1000000"), ("FANFARE_LIMITS__OUTBOX_BYTES", "50000000")];
    let (mut node, tunnel) = start("", &files, &authority, &more);
    let plain = std::mem::replace(&mut node.address, tunnel.address);
    let mut late = Client::on(&node, "orders");
    let mut prompt = Client::on(&node, "orders");
    let data = |number: usize| format!("{number:06}").repeat(150_000);
    // More than the socket's buffers, the tunnel's and the ciphertext together: much of it waits in the outbox.
    for number in 0..30 {
        let body = json!({ "name": "big", "channel": "orders", "data": data(number) });
        assert_eq!(APPLICATION.post(tunnel.address, "events", &body.to_string()).status, 200);
        assert!(prompt.expect("big", "orders").raw["data"] == data(number));
    }
    assert!(node.metric("fanfare_send_queue_bytes", &[]) > 1_000_000.0, "nothing had to wait");
    for number in 0..30 {
        assert!(late.expect("big", "orders").raw["data"] == data(number), "{number}");
    }
    // The other way: one message that comes in many reads.
    prompt.subscribe("private-a");
    late.subscribe("private-a");
    let whisper = json!({ "event": "client-long", "channel": "private-a", "data": "y".repeat(60_000) });
    late.socket.send(&whisper.to_string());
    assert!(prompt.expect("client-long", "private-a").raw["data"] == whisper["data"]);
    late.ping();
    until("nothing waits", || (node.metric("fanfare_send_queue_bytes", &[]) == 0.0).then_some(()));
    node.address = plain;
    node.assert_well();
}

#[test]
fn who_does_not_read_is_closed_as_slow_and_others_go_on() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let more = [("FANFARE_APPS__MAIN__EVENT_BYTES", "1000000"), ("FANFARE_LIMITS__OUTBOX_BYTES", "500000")];
    let (mut node, tunnel) = start("", &files, &authority, &more);
    let plain = std::mem::replace(&mut node.address, tunnel.address);
    let _deaf = Client::on(&node, "orders");
    let mut prompt = Client::on(&node, "orders");
    let body = json!({ "name": "big", "channel": "orders", "data": "x".repeat(400_000) }).to_string();
    let closed = || node.metric("fanfare_connections_closed_total", &[("reason", "slow_consumer")]) > 0.0;
    for _ in 0..100 {
        assert_eq!(APPLICATION.post(tunnel.address, "events", &body).status, 200);
        assert_eq!(prompt.next().event, "big");
        if closed() {
            break;
        }
    }
    assert!(closed(), "40 MB and nobody was too slow");
    prompt.ping();
    node.address = plain;
    node.assert_well();
}

#[test]
fn an_end_is_said_before_it_comes() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let (mut node, tunnel) = start("", &files, &authority, &[]);
    node.address = tunnel.address;
    assert_eq!(http::get(tunnel.address, "/up").status, 200);
    let mut refused = Socket::open(tunnel.address, "/app/unknown?protocol=7").unwrap();
    assert_eq!(close_code(&mut refused), 4001);
    refused.close();
    assert_eq!(refused.next(), Frame::End);
    let mut leaving = Client::on(&node, "news");
    leaving.socket.close();
    assert_eq!(leaving.close_code(), 1000);
    assert_eq!(leaving.socket.next(), Frame::End);
    let mut staying = Client::on(&node, "news");
    node.signal("TERM");
    assert_eq!(staying.close_code(), 4200);
    staying.socket.close();
    assert_eq!(staying.socket.next(), Frame::End);
    assert!(node.end().success());
    drop((refused, leaving, staying));
    until("all four have ended", || (tunnel.ended() == 4).then_some(()));
    assert_eq!(tunnel.cut(), 0);
}

#[test]
fn plain_http_and_silence_are_turned_away() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let (mut node, tunnel) = start("", &files, &authority, &[("FANFARE_LIMITS__HANDSHAKE_SECONDS", "0.5")]);
    let plain = http::get(node.address, "/up");
    assert_eq!((plain.status, plain.body.contains("https://")), (400, true), "{plain:?}");
    let mut silent = TcpStream::connect(node.address).unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0, "who says nothing is closed");
    let mut half = TcpStream::connect(node.address).unwrap();
    half.set_read_timeout(Some(LIMIT)).unwrap();
    // The head of a record, and never its body.
    half.write_all(&[22, 3, 1, 2, 0]).unwrap();
    assert_eq!(half.read(&mut [0; 10]).unwrap(), 0, "who does not go on is closed");
    let mut broken = TcpStream::connect(node.address).unwrap();
    broken.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    let rejected = || node.metric("fanfare_connections_rejected_total", &[("reason", "tls")]);
    until("nonsense is counted", || (rejected() == 1.0).then_some(()));
    assert_eq!(http::get(tunnel.address, "/up").status, 200);
    node.assert_well();
}

#[test]
fn a_new_certificate_is_shown_to_the_next_client_and_the_last_one_stays() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let files = Files::with(&one.certify());
    let (mut node, first) = start("", &files, &one, &[]);
    let second = Tunnel::to(node.address, &two);
    let reloads =
        |node: &Node, result| node.metric("fanfare_reloads_total", &[("part", "certificate"), ("result", result)]);
    let plain = std::mem::replace(&mut node.address, first.address);
    let mut old = Client::on(&node, "news");
    assert_eq!(http::get(second.address, "/up").status, 0);
    assert_eq!(second.refused(), 1);

    files.replace(&two.certify());
    until("the new certificate is shown", || (http::get(second.address, "/up").status == 200).then_some(()));
    assert_eq!(http::get(first.address, "/up").status, 0, "the old one is not shown any more");
    assert_eq!(APPLICATION.post(second.address, "events", r#"{"name":"e","channel":"news","data":"1"}"#).status, 200);
    old.expect("e", "news");
    assert_eq!(reloads(&node, "taken"), 1.0);

    // The key alone, as if somebody had forgotten the rest.
    fs::write(&files.key, one.certify().key).unwrap();
    node.signal("HUP");
    until("the key is refused", || (reloads(&node, "refused") == 1.0).then_some(()));
    let told = |node: &Node| {
        node.log().iter().any(|line| line.contains("stays as it was") && line.contains("does not belong"))
    };
    until("the log says why", || told(&node).then_some(()));
    assert_eq!(http::get(second.address, "/up").status, 200);
    old.ping();
    node.address = plain;
    node.assert_well();
}

#[test]
fn a_certificate_that_expires_is_lamented_and_drops_nobody() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify_briefly(4));
    let (mut node, tunnel) = start("", &files, &authority, &[]);
    let plain = std::mem::replace(&mut node.address, tunnel.address);
    let mut client = Client::on(&node, "news");
    let lamented = |node: &Node| node.log().iter().filter(|line| line.contains("the certificate has expired")).count();
    until("the log says it", || (lamented(&node) == 1).then_some(()));
    until("clients refuse it", || (http::get(tunnel.address, "/up").status == 0).then_some(()));
    assert!(client.ping().is_empty());
    files.replace(&authority.certify());
    until("the new one is shown", || (http::get(tunnel.address, "/up").status == 200).then_some(()));
    assert_eq!(lamented(&node), 1, "once a day");
    node.address = plain;
    node.assert_well();
}

#[test]
fn a_mounted_secret_that_is_swapped_is_seen() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let folder = Folder::new();
    // As Kubernetes does it: files are links into `..data`, which is a link that is replaced at one stroke.
    let put = |version: &str, pair: &Pair| {
        let path = folder.path().join(version);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(path.join("tls.key"), &pair.key).unwrap();
        symlink(version, folder.path().join("..new")).unwrap();
        fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    };
    put("..2026_1", &one.certify());
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let settings = [("FANFARE_TLS__CERTIFICATE_FILE", &*certificate), ("FANFARE_TLS__KEY_FILE", &*key)];
    let node = Node::start("", &settings);
    let (first, second) = (Tunnel::to(node.address, &one), Tunnel::to(node.address, &two));
    assert_eq!(http::get(first.address, "/up").status, 200);
    put("..2026_2", &two.certify());
    until("the new certificate is shown", || (http::get(second.address, "/up").status == 200).then_some(()));
}

#[test]
fn files_of_no_use_are_explained_before_a_port_is_opened() {
    let authority = Authority::new("one");
    let (good, other) = (authority.certify(), authority.certify());
    let label = "ENCRYPTED PRIVATE KEY";
    let locked = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let pair = |certificate: &str, key: &str| Pair { certificate: certificate.to_owned(), key: key.to_owned() };
    let chain = format!("{}{}", authority.pem(), good.certificate);
    let cases = [
        (pair("no pem\n", &good.key), "tls.certificate_file: ", "holds no certificate in PEM"),
        (pair(&good.certificate, "no pem\n"), "tls.key_file: ", "holds no private key in PEM"),
        (pair(&good.certificate, &good.certificate), "tls.key_file: ", "holds a certificate and no private key"),
        (pair(&good.certificate, &locked), "tls.key_file: ", "wants a passphrase"),
        (pair(&good.certificate, &other.key), "tls.key_file: ", "does not belong to the certificate in"),
        (pair(&chain, &good.key), "tls.key_file: ", "put the server's own certificate first"),
        (authority.certify_for(2020..2021), "tls.certificate_file: ", "expired at 2021-01-01T00:00:00Z"),
        (authority.certify_for(2110..2120), "tls.certificate_file: ", "not valid before 2110-01-01T00:00:00Z"),
    ];
    for (pair, key, words) in cases {
        let files = Files::with(&pair);
        for subcommand in ["check-config", "serve"] {
            let (code, said) = run(subcommand, &files.settings());
            assert!(code == Some(2) && said.contains(key) && said.contains(words), "{subcommand}: {code:?} {said}");
        }
    }
    let files = Files::with(&good);
    let [certificate, key] = files.settings();
    assert_eq!(run("check-config", &[certificate, key]).0, Some(0));
    let (code, said) = run("check-config", &[certificate]);
    assert!(code == Some(2) && said.contains("tls.key_file: is missing"), "{said}");
    let (code, said) = run("check-config", &[certificate, ("FANFARE_TLS__KEY_FILE", "/nowhere/tls.key")]);
    assert!(code == Some(2) && said.contains("FANFARE_TLS__KEY_FILE: tls.key_file: "), "{said}");
    assert!(said.contains("cannot be read: No such file"), "{said}");
}

/// The exit code and what was said on standard error.
fn run(subcommand: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command: Command = node::command();
    let output = command.arg(subcommand).envs(settings.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
