//! Whom a command speaks with: which app, at which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Failure;
use crate::settings::{NamedApp, Settings};

/// The app that the command names, else the first.
pub(super) fn app<'a>(asked: Option<&str>, settings: &'a Settings) -> Result<&'a NamedApp, Failure> {
    let Some(name) = asked else {
        // Settings hold at least one.
        return settings.apps.first().ok_or_else(|| Failure::Usage("no app is configured".to_owned()));
    };
    let by_name = settings.apps.iter().find(|app| app.name == name);
    let by_id = || settings.apps.iter().find(|app| *app.app.id == *name);
    by_name.or_else(by_id).ok_or_else(|| {
        let known: Vec<&str> = settings.apps.iter().map(|app| app.name.as_str()).collect();
        Failure::Usage(format!("--app {name}: no such app in the settings; there is {}", known.join(", ")))
    })
}

/// The URL that the command names, else the node of the settings. `ws://` and `wss://` name the same door as `http://` and
/// `https://`.
pub(super) fn url(asked: Option<&str>, settings: &Settings) -> Result<String, Failure> {
    let Some(asked) = asked else {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        return near_url(scheme, "server.listen", settings.server.listen);
    };
    Ok(match asked.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        _ => asked.to_owned(),
    })
}

/// The same for the admin port.
pub(super) fn admin_url(asked: Option<&str>, settings: &Settings) -> Result<String, Failure> {
    asked.map_or_else(|| near_url("http", "server.admin", settings.server.admin), |url| Ok(url.to_owned()))
}

fn near_url(scheme: &str, name: &str, address: SocketAddr) -> Result<String, Failure> {
    if address.port() == 0 {
        let text = format!(
            "{name} has port 0, which says nothing of where the node is; name it with --to {scheme}://host:port"
        );
        return Err(Failure::Usage(text));
    }
    Ok(format!("{scheme}://{}", near(address)))
}

/// "All addresses" is no address to connect to; this machine's own is one of them.
fn near(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_near() {
        assert_eq!(near("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(near("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(near("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
