//! Which nodes are measured, and as which app.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use clap::Args;
use fanfare_publisher::Publisher;

use crate::tongue::Tongue;

#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// A node, as its clients reach it. Several: connections are spread over them in turn.
    #[arg(long = "to", value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:8080")]
    pub(crate) nodes: Vec<String>,
    #[arg(long, default_value = "app-id")]
    pub(crate) app_id: String,
    #[arg(long, default_value = "app-key")]
    pub(crate) app_key: String,
    #[arg(long, default_value = "app-secret")]
    pub(crate) app_secret: String,
    /// What the clients speak.
    #[arg(long = "speak", value_enum, default_value = "pusher")]
    pub(crate) tongue: Tongue,
    /// Publish straight into this Redis, as Laravel does, instead of over the HTTP API.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// What stands before a channel's name in Redis. Default: the app's id and a colon.
    #[arg(long)]
    pub(crate) redis_prefix: Option<String>,
    /// Measure something that does not run on this machine. A load test of somebody else's server is an attack.
    #[arg(long)]
    pub(crate) yes_i_own_this_host: bool,
}

/// One node's socket address, and the name to greet it by.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
}

impl Target {
    /// # Errors
    /// An address that is none, or not of this machine.
    pub(crate) fn resolve(&self) -> Result<Vec<Node>> {
        self.nodes.iter().map(|url| self.node(url)).collect()
    }

    fn node(&self, url: &str) -> Result<Node> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url}: write http://HOST:PORT; certificates are the load balancer's, and not measured here");
        };
        let authority = rest.trim_end_matches('/');
        let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let mut addresses = with_port.to_socket_addrs().with_context(|| format!("{url}: no such host"))?;
        let address = addresses.next().with_context(|| format!("{url}: no such host"))?;
        if !address.ip().is_loopback() && !self.yes_i_own_this_host {
            bail!("{url} is not on this machine; if you may put load on it, add --yes-i-own-this-host");
        }
        Ok(Node { address, authority: authority.to_owned() })
    }

    /// A publisher with connections of its own. Over HTTP they go to the node with this number.
    ///
    /// # Errors
    /// An address that is none.
    pub(crate) fn publisher(&self, number: usize) -> Result<Publisher> {
        let made = match &self.redis {
            Some(url) => {
                let prefix = self.redis_prefix.clone().unwrap_or_else(|| format!("{}:", self.app_id));
                Publisher::redis(url, &prefix)
            }
            None => {
                let url = &self.nodes[number % self.nodes.len()];
                Publisher::http(url, &self.app_id, &self.app_key, &self.app_secret)
            }
        };
        Ok(made?)
    }

    /// `http` or `redis`.
    pub(crate) fn road(&self) -> &'static str {
        if self.redis.is_some() { "redis" } else { "http" }
    }
}
