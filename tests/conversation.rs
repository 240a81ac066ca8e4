//! One conversation of two users, byte for byte: on a node by itself, and on two that share a Redis.

use crate::support::http::APPLICATION;
use crate::support::prelude::*;

#[test]
fn on_one_node() {
    let node = Node::start("", &[]);
    play(&node, &node);
}

#[test]
fn on_two_nodes() {
    let cluster = Cluster::start(2);
    play(&cluster.nodes[0], &cluster.nodes[1]);
}

/// `>` in the comments is from the client. Socket ids and signatures differ each time; the ids of members are in the order of
/// their text.
fn play(near: &Node, far: &Node) {
    let (mut a, mut b) = (greeted(near), greeted(far));
    speak_of_news(&mut a, near);
    meet_in_a_room(&mut a, &mut b);
    publish_and_keep(&mut a, near);
    sign_in(&mut a);
    part(&mut a, &mut b);
    let answer = APPLICATION.post(far.address, "users/a/terminate_connections", "{}");
    assert_eq!((answer.status, &*answer.body), (200, "{}"));
    a.expect_text(r#"{"event":"pusher:error","data":{"code":4009,"message":"You got disconnected by the app."}}"#);
    let reason = "You got disconnected by the app.".to_owned();
    assert_eq!(a.socket.next(), Frame::Close { code: 4009, reason });
    assert!(b.ping().is_empty(), "nobody else is told or closed");
}

fn greeted(node: &Node) -> Client {
    let path = format!("/app/{}?protocol=7&client=js&version=8.6.0&flash=false", node::KEY);
    let mut socket = Socket::open(node.address, &path).expect("the upgrade is granted");
    let Frame::Text(text) = socket.next() else { panic!("no first frame") };
    let (start, end) =
        (r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\""#, r#"\",\"activity_timeout\":30}"}"#);
    let id = text.strip_prefix(start).and_then(|text| text.strip_suffix(end)).expect(&text).to_owned();
    Client { socket, id, key: node::KEY, secret: node::SECRET }
}

fn speak_of_news(a: &mut Client, node: &Node) {
    a.socket.send(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#);
    a.expect_text(r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#);
    let body = r#"{"name":"App\\Events\\Hi","channels":["news"],"data":"{\"m\":\"é\"}","socket_id":"9.9"}"#;
    let answer = APPLICATION.post(node.address, "events", body);
    assert_eq!((answer.status, &*answer.body), (200, "{}"));
    a.expect_text(r#"{"event":"App\\Events\\Hi","channel":"news","data":"{\"m\":\"é\"}"}"#);
}

fn meet_in_a_room(a: &mut Client, b: &mut Client) {
    let ada = r#"{"user_id":"a","user_info":{"n":"Ada"}}"#;
    enter(a, ada);
    a.expect_text(
        r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"ids\":[\"a\"],\"hash\":{\"a\":{\"n\":\"Ada\"}},\"count\":1}}"}"#,
    );
    enter(b, r#"{"user_id":10}"#);
    a.expect_text(
        r#"{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"10\"}"}"#,
    );
    b.expect_text(
        r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"ids\":[\"10\",\"a\"],\"hash\":{\"10\":null,\"a\":{\"n\":\"Ada\"}},\"count\":2}}"}"#,
    );
    a.socket.send(r#"{"event":"client-typing","channel":"presence-room","data":{"on":true}}"#);
    b.expect_text(r#"{"event":"client-typing","channel":"presence-room","data":{"on":true},"user_id":"a"}"#);
}

fn enter(client: &mut Client, member: &str) {
    let auth = client.sign("presence-room", Some(member));
    client.send("pusher:subscribe", json!({ "auth": auth, "channel_data": member, "channel": "presence-room" }));
}

fn publish_and_keep(a: &mut Client, node: &Node) {
    a.socket.send(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"cache-price"}}"#);
    a.expect_text(r#"{"event":"pusher_internal:subscription_succeeded","channel":"cache-price","data":"{}"}"#);
    a.expect_text(r#"{"event":"pusher:cache_miss","channel":"cache-price"}"#);
    let answer =
        APPLICATION.post(node.address, "events", r#"{"name":"up","channel":"cache-price","data":"{\"eur\":7}"}"#);
    assert_eq!(answer.status, 200);
    let kept = r#"{"event":"up","channel":"cache-price","data":"{\"eur\":7}"}"#;
    a.expect_text(kept);
    a.unsubscribe("cache-price");
    a.socket.send(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"cache-price"}}"#);
    a.expect_text(r#"{"event":"pusher_internal:subscription_succeeded","channel":"cache-price","data":"{}"}"#);
    a.expect_text(kept);
    let auth = format!("{}:bad", node::KEY);
    a.send("pusher:subscribe", json!({ "auth": auth, "channel": "private-x" }));
    a.expect_text(
        r#"{"event":"pusher:subscription_error","channel":"private-x","data":{"type":"AuthError","error":"The signature does not fit this socket and channel","status":401}}"#,
    );
}

fn sign_in(a: &mut Client) {
    a.ask_to_sign_in(r#"{"id":"a"}"#);
    a.expect_text(r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"a\\\"}\"}"}"#);
    a.socket.send(r##"{"event":"pusher:subscribe","data":{"auth":"","channel":"#server-to-user-a"}}"##);
    a.expect_text(r##"{"event":"pusher_internal:subscription_succeeded","channel":"#server-to-user-a","data":"{}"}"##);
}

fn part(a: &mut Client, b: &mut Client) {
    b.unsubscribe("presence-room");
    assert!(b.ping().is_empty(), "an unsubscribe has no answer");
    a.expect_text(
        r#"{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"10\"}"}"#,
    );
    a.socket.send(r#"{"event":"pusher:ping","data":{}}"#);
    a.expect_text(r#"{"event":"pusher:pong","data":"{}"}"#);
}
