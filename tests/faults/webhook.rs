//! The application's endpoint for webhooks is down.

use std::collections::BTreeMap;

use super::prelude::*;
use crate::support::endpoint::{Endpoint, hook};
use crate::support::relay::Relay;

const DOWN: Duration = Duration::from_secs(60);

#[test]
#[ignore = "long: cargo xtask test faults"]
fn an_endpoint_that_is_down_for_a_minute() {
    let _machine = alone();
    let mut endpoint = Endpoint::start();
    let way = Relay::start(endpoint.back_end.port);
    let url = format!("http://127.0.0.1:{}/hooks", way.port);
    let mut scene = Scene::in_company(2, &hook(&url, "member_added,member_removed"));
    endpoint.wait_for(5);
    way.way(Way::Refused);
    let down = Instant::now();
    let users: Vec<String> = (0..10).map(|number| format!("late {number}")).collect();
    users.iter().for_each(|user| scene.joins(0, user));
    until("they are in", || scene.crowd.all_inside().then_some(()));
    users[..5].iter().for_each(|user| scene.leaves(user));
    scene.rosters_right(Instant::now());
    thread::sleep(DOWN.saturating_sub(down.elapsed()));
    assert_eq!(endpoint.events().len(), 5, "the way to it was open");
    way.way(Way::Open);
    let open = Instant::now();
    until_within(Duration::from_secs(90), "everything is told", || (endpoint.events().len() >= 20).then_some(()));
    let healed = open.elapsed();
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for event in endpoint.events().iter().skip(5) {
        *told.entry(format!("{} {}", event["name"], event["user_id"])).or_default() += 1;
    }
    let added = users.iter().map(|user| format!(r#""member_added" "{user}""#));
    let removed = users[..5].iter().map(|user| format!(r#""member_removed" "{user}""#));
    assert_eq!(told, added.chain(removed).map(|event| (event, 1)).collect(), "each once");
    let verdict = Verdict::of(&mut scene, |_, user| {
        (usize::from(user.starts_with("late")), usize::from(user.starts_with("late")))
    });
    let row = Row::of("20", "The webhook's endpoint refuses connections for 60 s").healed(healed);
    row.note("15 events of meanwhile, each told once").print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
}
