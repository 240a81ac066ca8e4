//! Pages as they have been for years, in Chromium: old versions of Echo and of the client below it, moved to a node by nothing but its
//! address.

use crate::support::laravel::LaravelSite;
use crate::support::prelude::*;
use crate::support::visitors::Visitors;

/// Connector, Echo, and the client below it; `node`: the one that old pages load from the server itself.
const PAGES: [(&str, &str, &str); 4] = [
    ("socket.io", "laravel-echo-1", "node"),
    ("socket.io", "laravel-echo", "socket.io-client-2"),
    ("pusher", "laravel-echo-1", "pusher-js-7"),
    ("pusher", "laravel-echo", "pusher-js-7"),
];

#[test]
fn old_pages_go_on_as_they_are() {
    let site = LaravelSite::start();
    let origin = format!("http://127.0.0.1:{}", site.port);
    let library = format!("{}/clients/node_modules/socket.io-client-2/dist/socket.io.js", env!("CARGO_MANIFEST_DIR"));
    let auth_url = format!("{origin}/broadcasting/auth");
    let settings = [("FANFARE_APPS__MAIN__AUTH_URL", &*auth_url), ("FANFARE_SOCKET_IO__CLIENT_FILE", &*library)];
    let cluster = Cluster::with(1, &settings);
    let node = &cluster.nodes[0];
    let mut laravel = Laravel::with("phpredis", &cluster.redis);
    let mut visitors = Visitors::of(origin);
    for (number, (connector, echo, client)) in PAGES.into_iter().enumerate() {
        println!("{echo} over {connector}, {client}");
        let who = format!("visitor {number}");
        let port = node.address.port();
        visitors.comes(&who, &format!("/page?node={port}&connector={connector}&echo={echo}&client={client}"));
        visitors.sees(&who, "#heard li", &["here 7"]);
        until("the page has its channels", || (node.metric("fanfare_subscriptions", &[]) == 3.0).then_some(()));
        let mut other = Client::present(node, "presence-room.1", "8");
        // Her member object has no id of its own: Echo shows what the application said of her.
        laravel.broadcast(&["news"], 1);
        laravel.broadcast(&["private-orders.7"], 2);
        visitors.sees(&who, "#heard li", &["here 7", "joining undefined", "news 1", "mine 2"]);
        other.unsubscribe("presence-room.1");
        visitors.counts(&who, "#heard li", 5);
        visitors.goes(&who);
        drop(other);
        until("the page is gone", || (node.metric("fanfare_subscriptions", &[]) == 0.0).then_some(()));
    }
}
