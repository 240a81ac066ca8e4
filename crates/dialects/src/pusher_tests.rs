//! Pusher frames, in and out, byte for byte.

use super::*;
use model::{App, Member, SocketId, View};

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    Pusher.decode(&mut State::default(), Message::Text(text), &mut out);
    let shown = out.into_iter().map(|action| match action {
        Action::Command(Command::Subscribe { channel, proof, resume }, None) => {
            let back = resume.map_or(String::new(), |resume| {
                format!(" {} {:?}", resume.from.map_or("from now".into(), |from| from.to_string()), resume.except)
            });
            format!("subscribe {channel} {:?} {:?}{back}", proof.auth, proof.channel_data)
        }
        Action::Command(Command::Unsubscribe { channel }, None) => format!("unsubscribe {channel}"),
        Action::Command(Command::Whisper { channel, event, data }, None) => {
            format!("whisper {channel} {event} {}", data.as_str())
        }
        Action::Command(Command::SignIn { auth, user_data }, None) => format!("sign in {auth:?} {user_data}"),
        Action::Reply(bytes) => String::from_utf8(bytes).unwrap(),
        other => format!("{other:?}"),
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn broadcast(broadcast: Broadcast) -> String {
    seen(View::Channel, "presence-room", broadcast)
}

fn seen(view: View, channel: &str, broadcast: Broadcast) -> String {
    let mut out = Vec::new();
    Pusher.broadcast(Encoding { dialect: 0, variant: 0, view, positions: false }, channel, &broadcast, &mut out);
    String::from_utf8(out).unwrap()
}

fn notice(notice: Notice<'_>) -> String {
    let mut out = Vec::new();
    Pusher.notice(&State::default(), &notice, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_clients_ask() {
    let check = |text: &str, expected: &str| assert_eq!(decode(text), expected, "{text}");
    check(r#"{"event":"pusher:ping","data":{}}"#, r#"{"event":"pusher:pong","data":"{}"}"#);
    check(r#"{"event": "pusher:ping"}"#, r#"{"event":"pusher:pong","data":"{}"}"#);
    check(r#"{"event":"pusher:pong","data":{}}"#, "");
    check(r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#, r#"subscribe news Some("") None"#);
    check(r#"{"event":"pusher:subscribe","data":"{\"channel\":\"news\"}"}"#, "subscribe news None None");
    check(
        r#"{"event":"pusher:subscribe","data":{"auth":"K:h","channel_data":"{\"user_id\":\"a\"}","channel":"presence-x"}}"#,
        r#"subscribe presence-x Some("K:h") Some("{\"user_id\":\"a\"}")"#,
    );
    check(r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#, "unsubscribe news");
    check(
        r#"{"event":"client-t","channel":"private-x","data":{"on" : true}}"#,
        r#"whisper private-x client-t {"on" : true}"#,
    );
    check(r#"{"event":"client-t","channel":"private-x"}"#, "whisper private-x client-t null");
    check(
        r##"{"event":"pusher:subscribe","data":{"auth":"","channel":"#server-to-user-a"}}"##,
        r##"subscribe #server-to-user-a Some("") None"##,
    );
    check(
        r#"{"event":"pusher:signin","data":{"auth":"K:h","user_data":"{\"id\":\"a\"}"}}"#,
        r#"sign in Some("K:h") {"id":"a"}"#,
    );
    check(r#"{"event":"pusher:signin","data":"{\"auth\":\"K:h\",\"user_data\":\"{}\"}"}"#, r#"sign in Some("K:h") {}"#);
}

#[test]
fn what_cannot_be_read_is_answered() {
    let deep = format!("{}{}", r#"{"event":"x","data":"#, "[".repeat(30_000));
    for text in [
        "",
        "x",
        "[]",
        r#"["pusher:ping",null,null]"#,
        "{}",
        "null",
        r#"{"event":1}"#,
        r#"{"event":null}"#,
        r#"{"event":"a""#,
        &deep,
    ] {
        let answer = decode(text);
        assert!(answer.starts_with(r#"{"event":"pusher:error","data":{"code":null,"#), "{answer}");
    }
}

#[test]
fn wrong_types_are_refused_by_name() {
    let error = |text: &str| {
        let answer = decode(text);
        assert!(answer.starts_with(r#"{"event":"pusher:error","data":{"code":null"#), "{text} {answer}");
    };
    error(r#"{"event":"pusher:subscribe"}"#);
    error(r#"{"event":"pusher:subscribe","data":7}"#);
    error(r#"{"event":"pusher:subscribe","data":{}}"#);
    error(r#"{"event":"pusher:subscribe","data":["news"]}"#);
    error(r#"{"event":"pusher:subscribe","data":{"channel":["a"]}}"#);
    error(r#"{"event":"pusher:unsubscribe","data":{"channel":{}}}"#);
    error(r#"{"event":"client-x","channel":5,"data":{}}"#);
    error(r#"{"event":"client-x","data":{}}"#);
    error(r#"{"event":"pusher:nonsense","data":{}}"#);
    error(r#"{"event":"pusher_internal:member_added","channel":"a","data":{}}"#);
    let refused = |text: &str, channel: &str| {
        let answer = decode(text);
        let start = format!(r#"{{"event":"pusher:subscription_error","channel":"{channel}","data":{{"type":""#);
        assert!(answer.starts_with(&start), "{text} {answer}");
    };
    refused(r#"{"event":"pusher:subscribe","data":{"channel":"private-a","auth":7}}"#, "private-a");
    refused(r#"{"event":"pusher:subscribe","data":{"channel":"presence-a","channel_data":{}}}"#, "presence-a");
    refused(r#"{"event":"pusher:subscribe","data":{"channel":"a b"}}"#, "a b");
    refused(r#"{"event":"pusher:subscribe","data":{"channel":"a:b"}}"#, "a:b");
    refused(r#"{"event":"pusher:subscribe","data":{"channel":""}}"#, "");
    for name in ["#a", "#", "#server-to-user", "##server-to-user-1", "#server-to-user-#1", "a#server-to-user-1"] {
        refused(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{name}"}}}}"#), name);
    }
    let unsigned = |data: &str| {
        let answer = decode(&format!(r#"{{"event":"pusher:signin","data":{data}}}"#));
        assert!(answer.starts_with(r#"{"event":"pusher:error","data":{"code":4009,"#), "{data} {answer}");
    };
    for data in ["null", "7", "[]", "{}", r#""x""#, r#"{"auth":"K:h"}"#, r#"{"auth":"K:h","user_data":{}}"#] {
        unsigned(data);
    }
    unsigned(r#"{"auth":7,"user_data":"{}"}"#);
    let long = format!(r#"{{"event":"client-{}","channel":"private-a","data":{{}}}}"#, "x".repeat(200));
    assert!(decode(&long).starts_with(r#"{"event":"pusher:error","data":{"code":4301,"#));
}

#[test]
fn the_twentieth_unreadable_message_in_a_row_closes() {
    let mut state = State::default();
    let mut out = Vec::new();
    for _ in 0..19 {
        Pusher.decode(&mut state, Message::Text("x"), &mut out);
    }
    Pusher.decode(&mut state, Message::Text(r#"{"event":"pusher:pong"}"#), &mut out);
    for _ in 0..19 {
        Pusher.decode(&mut state, Message::Text("x"), &mut out);
    }
    assert!(out.iter().all(|action| matches!(action, Action::Reply(_))));
    Pusher.decode(&mut state, Message::Text("x"), &mut out);
    let last = out.pop();
    assert!(matches!(&last, Some(Action::Close(refusal)) if refusal.code() == 4100), "{last:?}");
}

#[test]
fn channel_events_are_double_encoded_and_whispers_are_not() {
    let event = |name: &str, data: &str| Event::new(name, RawJson::parse(data).unwrap());
    assert_eq!(
        broadcast(Broadcast::Event(event(r"App\Events\Hi", r#"{"m":"é/"}"#))),
        r#"{"event":"App\\Events\\Hi","channel":"presence-room","data":"{\"m\":\"é/\"}"}"#
    );
    assert_eq!(
        broadcast(Broadcast::Event(event("e", r#""{\"m\":1}""#))),
        r#"{"event":"e","channel":"presence-room","data":"{\"m\":1}"}"#
    );
    let mut whisper = event("client-typing", r#"{"on":true}"#);
    whisper.user_id = Some("a".into());
    assert_eq!(
        broadcast(Broadcast::Event(whisper)),
        r#"{"event":"client-typing","channel":"presence-room","data":{"on":true},"user_id":"a"}"#
    );
}

#[test]
fn members_come_and_go() {
    let member = Member { id: "10".into(), info: RawJson::parse(r#"{"n":"Ada"}"#) };
    assert_eq!(
        broadcast(Broadcast::Joined(member.clone())),
        r#"{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"10\",\"user_info\":{\"n\":\"Ada\"}}"}"#
    );
    assert_eq!(
        broadcast(Broadcast::Left(member.clone())),
        r#"{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"10\"}"}"#
    );
    let roster = Roster([(member.id, member.info), ("a".into(), None)].into());
    let channel = ChannelName::new("presence-room").unwrap();
    assert_eq!(
        notice(Notice::Subscribed {
            channel: &channel,
            roster: Some(&roster),
            position: None,
            recovered: None,
            tag: &None
        }),
        r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"ids\":[\"10\",\"a\"],\"hash\":{\"10\":{\"n\":\"Ada\"},\"a\":null},\"count\":2}}"}"#
    );
}

#[test]
fn each_view_has_its_part() {
    let user = "#server-to-user-7";
    let joined = || Broadcast::Joined(Member { id: "7".into(), info: None });
    let left = || Broadcast::Left(Member { id: "7".into(), info: None });
    let event = || Broadcast::Event(Event::new("e", RawJson::string("x")));
    let watched = |name: &str| {
        let data = format!(r#"{{\"events\":[{{\"name\":\"{name}\",\"user_ids\":[\"7\"]}}]}}"#);
        format!(r#"{{"event":"pusher_internal:watchlist_events","data":"{data}"}}"#)
    };
    assert_eq!(seen(View::Watch, user, joined()), watched("online"));
    assert_eq!(seen(View::Watch, user, left()), watched("offline"));
    for other in [event(), Broadcast::Count(1), Broadcast::Gap, Broadcast::Terminate] {
        assert_eq!(seen(View::Watch, user, other), "");
    }
    assert_eq!(seen(View::User, user, event()), r##"{"event":"e","channel":"#server-to-user-7","data":"x"}"##);
    for other in [joined(), left(), Broadcast::Terminate] {
        assert_eq!(seen(View::User, user, other), "");
    }
    for any in [event(), joined(), left(), Broadcast::Count(1), Broadcast::Gap, Broadcast::Terminate] {
        assert_eq!(seen(View::Silent, user, any), "");
    }
    assert_eq!(
        seen(View::Channel, "news", Broadcast::Count(2)),
        r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":2}"}"#
    );
}

#[test]
fn who_signs_in_is_told_so_and_whom_he_watches() {
    assert_eq!(
        notice(Notice::SignedIn { user_data: r#"{"id":"a"}"#, tag: &None }),
        r#"{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"a\\\"}\"}"}"#
    );
    let ids: [UserId; 2] = ["7".into(), "8".into()];
    assert_eq!(
        notice(Notice::Watched { online: &ids, offline: &["9".into()] }),
        r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\",\"8\"]},{\"name\":\"offline\",\"user_ids\":[\"9\"]}]}"}"#
    );
    assert_eq!(
        notice(Notice::Watched { online: &[], offline: &ids[..1] }),
        r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"7\"]}]}"}"#
    );
    assert_eq!(notice(Notice::Watched { online: &[], offline: &[] }), "");
}

#[test]
fn notices_and_the_end() {
    let channel = ChannelName::new("news").unwrap();
    assert_eq!(
        notice(Notice::Welcome {
            socket_id: SocketId::new(187, 4021).unwrap(),
            session: None,
            app: &App::new("a", "k", "s")
        }),
        r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"187.4021\",\"activity_timeout\":30}"}"#
    );
    assert_eq!(
        notice(Notice::Subscribed { channel: &channel, roster: None, position: None, recovered: None, tag: &None }),
        r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#
    );
    assert_eq!(
        notice(Notice::SubscribeRefused { channel: "private-x", refusal: &Reason::NotPermitted.into(), tag: &None }),
        r#"{"event":"pusher:subscription_error","channel":"private-x","data":{"type":"AuthError","error":"The signature does not fit this socket and channel","status":401}}"#
    );
    assert_eq!(notice(Notice::Unsubscribed { channel: &channel, tag: &None }), "");
    assert_eq!(notice(Notice::CacheMiss { channel: &channel }), r#"{"event":"pusher:cache_miss","channel":"news"}"#);
    let goodbye = Pusher.goodbye(&State::default(), &Reason::Terminated.into());
    assert_eq!(
        goodbye.message,
        br#"{"event":"pusher:error","data":{"code":4009,"message":"You got disconnected by the app."}}"#
    );
    assert_eq!(goodbye.code, 4009);
    let goodbye = Pusher.goodbye(&State::default(), &Reason::UnknownApp.into());
    assert_eq!(
        goodbye.message,
        br#"{"event":"pusher:error","data":{"code":4001,"message":"Application does not exist"}}"#
    );
    assert_eq!((goodbye.code, &*goodbye.reason), (4001, "Application does not exist"));
    assert!(Pusher.goodbye(&State::default(), &Reason::FrameTooLarge.into()).message.is_empty());
}

#[test]
fn protocol_versions() {
    let open = |version: Option<&str>| {
        let query: Vec<_> = version.map(|v| ("protocol".into(), v.into())).into_iter().collect();
        Pusher
            .open(&OpenRequest { path_rest: "key", query: &query, may_upgrade: false })
            .map(|o| o.state.variant)
            .map_err(|(r, _)| r.code())
    };
    assert_eq!(open(None), Ok(7));
    assert_eq!(open(Some("5")), Ok(5));
    assert_eq!(open(Some("7")), Ok(7));
    assert_eq!(open(Some("8")), Err(4007));
    assert_eq!(open(Some("4")), Err(4007));
    assert_eq!(open(Some("-1")), Err(4007));
    assert_eq!(open(Some("abc")), Err(4006));
    assert_eq!(open(Some("")), Err(4006));
}

#[test]
fn who_wants_to_come_back_is_told_where_it_stands() {
    let asked = |resume: &str| {
        decode(&format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"chat","resume":{resume}}}}}"#))
    };
    assert_eq!(asked("null"), "subscribe chat None None");
    assert_eq!(asked("true"), "subscribe chat None None from now None");
    assert_eq!(asked(r#""e1:7""#), "subscribe chat None None e1:7 None");
    let (from, socket) = (r#"{"position":"e1:7","socket_id":"1.2"}"#, SocketId::new(1, 2));
    assert_eq!(asked(from), format!("subscribe chat None None e1:7 {socket:?}"));
    let refused = r#"{"event":"pusher:subscription_error","channel":"chat","data":{"type":"InvalidSubscription","error":"resume is neither true nor a position nor {\"position\", \"socket_id\"}","status":400}}"#;
    assert_eq!(asked("7"), refused);

    let (channel, position) = (ChannelName::new("chat").unwrap(), "e1:7".parse().unwrap());
    let told = |recovered| Notice::Subscribed {
        channel: &channel,
        roster: None,
        position: Some(&position),
        recovered,
        tag: &None,
    };
    let success = r#"{"event":"pusher_internal:subscription_succeeded","channel":"chat","data":"{}","position":"e1:7""#;
    assert_eq!(notice(told(None)), format!("{success}}}"));
    assert_eq!(notice(told(Some(false))), format!(r#"{success},"recovered":false}}"#));
    assert_eq!(
        notice(Notice::Position { channel: &channel, position: &position }),
        r#"{"event":"fanfare:position","channel":"chat","data":"{}","position":"e1:7"}"#
    );
    let event = Event { position: Some(position.clone()), ..Event::new("e", RawJson::parse("1").unwrap()) };
    let event = Broadcast::Event(event);
    assert_eq!(seen(View::Channel, "chat", event.clone()), r#"{"event":"e","channel":"chat","data":"1"}"#);
    let mut out = Vec::new();
    let encoding = Encoding { dialect: 0, variant: 0, view: View::Channel, positions: true };
    Pusher.broadcast(encoding, "chat", &event, &mut out);
    let with_position = r#"{"event":"e","channel":"chat","data":"1","position":"e1:7"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), with_position);
}
