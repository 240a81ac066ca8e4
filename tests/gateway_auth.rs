//! The auth endpoints: a signature for whom the application lets in, and a plain word for everybody else.

use crate::support::back_end::BackEnd;
use crate::support::http::{self, Response};
use crate::support::laravel::{LaravelSite, ORDER_SHIPPED};
use crate::support::node::{APP_ID, KEY, OTHER_KEY};
use crate::support::prelude::*;

const AUTH: &str = "/broadcasting/auth";
const QUESTION: &str = "socket_id=1.2&channel_name=private-orders.7";

fn ask(node: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", node.address);
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    http::exchange(node.address, request.as_bytes())
}

fn post(node: &Node, headers: &[(&str, &str)], body: &str) -> Response {
    ask(node, "POST", AUTH, headers, body)
}

fn node_asking(url: &str, more: &[(&str, &str)]) -> Node {
    let settings = [&[("FANFARE_APPS__MAIN__AUTH_URL", url)], more].concat();
    Node::start("", &settings)
}

#[test]
fn echo_joins_private_and_presence_channels_of_a_laravel_that_signs_nothing() {
    let site = LaravelSite::start();
    let url = format!("http://127.0.0.1:{}{AUTH}", site.port);
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__AUTH_URL", &url)]);
    let mut laravel = Laravel::with("phpredis", &cluster.redis);
    let mut ann = Browser::with_echo_and_token(&cluster.nodes[0], "7");
    let mut bob = Browser::with_echo_and_token(&cluster.nodes[1], "8");

    ann.tell(&json!({ "do": "listen", "channel": "private-orders.7", "event": "OrderShipped" }));
    ann.until(|told| told["kind"] == "subscribed");
    laravel.broadcast(&["private-orders.7"], 5);
    assert_eq!(ann.until(|told| told["kind"] == "event")["data"]["number"], 5);

    bob.tell(&json!({ "do": "listen", "channel": "private-orders.7", "event": "OrderShipped" }));
    let refused = bob.until(|told| told["kind"] == "refused");
    assert_eq!((&refused["error"]["status"], &refused["error"]["type"]), (&json!(403), &json!("AuthError")));

    let here = |browser: &mut Browser| {
        browser.tell(&json!({ "do": "join", "channel": "presence-room.1" }));
        browser.until(|told| told["kind"] == "here")["users"].clone()
    };
    let member = |id: u32| json!({ "id": id, "name": format!("User {id}"), "room": "1" });
    assert_eq!(here(&mut ann), json!([member(7)]));
    let mut both = here(&mut bob).as_array().unwrap().clone();
    both.sort_by_key(|user| user["id"].as_u64());
    assert_eq!(both, [member(7), member(8)]);

    // The same with a cookie, from a third client that speaks by hand.
    let mut client = Client::connect(&cluster.nodes[1]);
    let body = format!("socket_id={}&channel_name=presence-room.1", client.id);
    let yes = post(&cluster.nodes[1], &[("Cookie", "user=9")], &body);
    let yes: Value = serde_json::from_str(&yes.body).unwrap();
    let data: Value = serde_json::from_str(yes["channel_data"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({ "user_id": "9", "user_info": member(9) }));
    let mut subscribe = yes.clone();
    subscribe["channel"] = json!("presence-room.1");
    client.send("pusher:subscribe", subscribe);
    client.expect("pusher_internal:subscription_succeeded", "presence-room.1");
    laravel.broadcast(&["presence-room.1"], 6);
    client.expect(ORDER_SHIPPED, "presence-room.1");

    let refused = |headers: &[(&str, &str)], channel: &str, words: &str| {
        let no = post(&cluster.nodes[0], headers, &format!("socket_id=1.2&channel_name={channel}"));
        assert!(no.status == 403 && no.body.contains(words), "{channel}: {no:?}");
    };
    refused(&[], "private-orders.7", "nobody is logged in");
    refused(&[("Cookie", "user=9")], "private-orders.7", "callback said no");
    refused(&[("Cookie", "user=9")], "private-nobody-knows", "callback said no");
    refused(&[("Cookie", "user=9")], "presence-bare.1", "must return an array");
}

#[test]
fn what_goes_in_and_what_comes_out() {
    let back_end = BackEnd::start();
    let more = [
        ("FANFARE_APPS__MAIN__AUTH_HEADERS", "X-Tenant"),
        ("FANFARE_APPS__MAIN__USER_AUTH_URL", &*back_end.url("/user?of=main")),
        ("FANFARE_APPS__OTHER__AUTH_URL", &*back_end.url("/other")),
    ];
    let node = node_asking(&back_end.url("/broadcasting/auth"), &more);
    back_end.answers("200 OK", "Set-Cookie: laravel_session=new; path=/; httponly\r\nX-Inner: secret\r\n", "true");
    let headers = [
        ("Cookie", "laravel_session=old"),
        ("X-CSRF-TOKEN", "token"),
        ("x-tenant", "7"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Other", "other"),
    ];
    let yes = post(&node, &headers, r#"{"socket_id":"1.2","channel_name":"private-orders.7","extra":true}"#);
    assert_eq!(yes.status, 200, "{yes:?}");
    assert!(yes.body.starts_with(&format!("{{\"auth\":\"{KEY}:")), "{yes:?}");
    assert_eq!(yes.headers["set-cookie"], "laravel_session=new; path=/; httponly");
    assert_eq!(yes.headers["cache-control"], "no-store");
    assert!(!yes.headers.contains_key("x-inner"), "{yes:?}");
    let asked = back_end.asked().concat();
    assert!(asked.starts_with("POST /broadcasting/auth HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\nsocket_id=1.2&channel_name=private-orders.7"), "{asked}");
    let lines = asked.to_lowercase();
    for line in [
        &*format!("host: 127.0.0.1:{}", back_end.port),
        "cookie: laravel_session=old",
        "x-csrf-token: token",
        "x-tenant: 7",
        "x-forwarded-for: 127.0.0.1",
        "x-requested-with: xmlhttprequest",
        "accept: application/json",
    ] {
        assert!(lines.contains(&format!("\r\n{line}\r\n")), "{line}: {asked}");
    }
    assert!(!lines.contains("other") && !lines.contains("6.6.6.6") && !lines.contains("extra"), "{asked}");

    let other = ask(&node, "POST", &format!("{AUTH}?app_key={OTHER_KEY}"), &[], QUESTION);
    assert!(other.body.contains(&format!("\"{OTHER_KEY}:")), "{other:?}");
    assert!(back_end.asked().concat().starts_with("POST /other "));
    back_end.answers("200 OK", "", r#"{"id":7,"name":"Ann"}"#);
    let user = ask(&node, "POST", "/broadcasting/user-auth", &[], "socket_id=1.2");
    assert!(user.body.contains(r#""user_data":"{\"id\":\"7\",\"name\":\"Ann\"}""#), "{user:?}");
    assert!(back_end.asked().concat().starts_with("POST /user?of=main "));

    let count = |labels: &[(&str, &str)]| node.metric("fanfare_http_requests_total", labels);
    assert_eq!(count(&[("route", AUTH), ("method", "POST"), ("status", "200")]), 2.0);
    assert_eq!(count(&[("route", "/broadcasting/user-auth"), ("status", "200")]), 1.0);
}

#[test]
fn a_no_is_explained_and_never_followed() {
    let back_end = BackEnd::start();
    let elsewhere = BackEnd::start();
    elsewhere.answers("200 OK", "", "true");
    let node = node_asking(&back_end.url("/"), &[]);
    let location = format!("Location: {}\r\n", elsewhere.url("/login"));
    for (status, head, body, expected, words) in [
        ("302 Found", &*location, "", 403, "redirects"),
        ("307 Temporary Redirect", &*location, "", 403, "redirects"),
        ("401 Unauthorized", "", r#"{"message":"Unauthenticated."}"#, 401, "Unauthenticated."),
        ("403 Forbidden", "", r#"{"message":""}"#, 403, "refuses"),
        ("419 Unknown", "", "<html>", 419, "CSRF"),
        ("422 Unprocessable", "", r#"{"message":"No."}"#, 422, "No."),
        ("500 Oops", "", "<html>", 502, "status 500"),
        ("200 OK", "", "<html>Log in", 403, "login"),
        ("200 OK", "", r#"{"auth":"main-key:00"}"#, 502, "key and secret"),
        ("200 OK", "", &*"x".repeat(65 << 10), 502, "of no use"),
        ("HTTP", "", "", 502, "of no use"),
    ] {
        back_end.answers(status, head, body);
        let no = post(&node, &[], QUESTION);
        assert!(no.status == expected && no.body.contains(words), "{status}: {no:?}");
        let said: Value = serde_json::from_str(&no.body).unwrap();
        assert!(said["message"].is_string() && said.get("auth").is_none(), "{no:?}");
    }
    assert_eq!(elsewhere.asked(), [""; 0], "a redirect was followed");
    let failures = node.metric("fanfare_auth_failures_total", &[("app", APP_ID), ("kind", "channel_endpoint")]);
    assert_eq!(failures, 9.0);
    let unreachable = format!("http://127.0.0.1:{}/", crate::support::ports::free());
    let no = post(&node_asking(&unreachable, &[]), &[], QUESTION);
    assert!(no.status == 502 && no.body.contains("cannot be reached"), "{no:?}");
}

#[test]
fn nobody_is_asked_what_is_no_question() {
    let back_end = BackEnd::start();
    back_end.answers("200 OK", "", "true");
    let node = node_asking(&back_end.url("/"), &[]);
    let refused = |response: Response, status: u16, words: &str| {
        assert!(response.status == status && response.body.contains(words), "{words}: {response:?}");
    };
    refused(post(&node, &[], ""), 400, "socket_id is missing");
    refused(post(&node, &[], "socket_id=1.2&channel_name=news"), 400, "neither private- nor presence-");
    refused(post(&node, &[], "socket_id=1.2%0d%0aX:1&channel_name=private-a"), 400, "socket_id");
    refused(post(&node, &[], "socket_id=1.2&channel_name=private-a%0d%0a"), 400, "control");
    refused(post(&node, &[], &format!("{QUESTION}&x={}", "x".repeat(64 << 10))), 413, "larger than 65536");
    let get = ask(&node, "GET", AUTH, &[], "");
    assert_eq!(get.headers["allow"], "POST, OPTIONS");
    refused(get, 405, "POST only");
    refused(ask(&node, "POST", &format!("{AUTH}?app_key=nobody"), &[], QUESTION), 404, "no app");
    refused(ask(&node, "POST", &format!("{AUTH}?app_key={OTHER_KEY}"), &[], QUESTION), 404, "auth_url is not set");
    refused(ask(&node, "POST", "/broadcasting/user-auth", &[], QUESTION), 404, "user_auth_url is not set");
    assert_eq!(back_end.asked(), [""; 0]);
}

#[test]
fn only_pages_of_allowed_origins_may_ask() {
    let back_end = BackEnd::start();
    back_end.answers("200 OK", "", "true");
    let node = node_asking(&back_end.url("/"), &[("FANFARE_APPS__MAIN__ALLOWED_ORIGINS", "https://shop.example")]);
    let shop = ("Origin", "https://shop.example");
    let preflight = ask(&node, "OPTIONS", AUTH, &[shop, ("Access-Control-Request-Method", "POST")], "");
    assert_eq!((preflight.status, &*preflight.body), (204, ""));
    let header = |response: &Response, name: &str| response.headers.get(name).cloned().unwrap_or_default();
    assert_eq!(header(&preflight, "access-control-allow-origin"), shop.1);
    assert_eq!(header(&preflight, "access-control-allow-credentials"), "true");
    assert_eq!(header(&preflight, "access-control-allow-methods"), "POST");
    assert!(header(&preflight, "access-control-allow-headers").contains("x-csrf-token"));
    assert_eq!(back_end.asked(), [""; 0]);

    let yes = post(&node, &[shop], QUESTION);
    assert_eq!((yes.status, header(&yes, "access-control-allow-origin")), (200, shop.1.to_owned()));
    assert_eq!(header(&yes, "vary"), "Origin");
    let own = post(&node, &[("Origin", &format!("http://{}", node.address))], QUESTION);
    assert_eq!((own.status, header(&own, "access-control-allow-origin")), (200, String::new()));
    assert_eq!(back_end.asked().len(), 2);

    for foreign in ["https://evil.example", "null", &back_end.url("")] {
        for method in ["OPTIONS", "POST"] {
            let no = ask(&node, method, AUTH, &[("Origin", foreign)], QUESTION);
            assert!(no.status == 403 && no.body.contains("allowed_origins"), "{method} {foreign}: {no:?}");
            assert_eq!(header(&no, "access-control-allow-origin"), "");
        }
    }
    assert_eq!(back_end.asked(), [""; 0]);
    let by_default = node_asking(&back_end.url("/x"), &[]);
    assert_eq!(post(&by_default, &[("Origin", &back_end.url(""))], QUESTION).status, 200);
}

#[test]
fn a_slow_application_costs_the_node_a_bounded_number_of_requests() {
    let back_end = BackEnd::start();
    let limits = [("FANFARE_LIMITS__AUTH_REQUESTS", "2"), ("FANFARE_LIMITS__AUTH_SECONDS", "0.5")];
    let node = node_asking(&back_end.url("/"), &limits);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| post(&node, &[], QUESTION))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).map(|no| no.status).collect()
    });
    assert!(statuses.iter().filter(|status| **status == 504).count() >= 2, "{statuses:?}");
    assert!(statuses.iter().all(|status| [503, 504].contains(status)), "{statuses:?}");
    back_end.answers("200 OK", "", "true");
    let all: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| post(&node, &[], QUESTION).status)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(all, [200; 20], "who has to wait for a place still gets an answer");
}
