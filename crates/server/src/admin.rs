//! The operator's listener: metrics and health. Bind it where only operators and load balancers reach it.

use std::convert::Infallible;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use backplane::{Cluster, LinkStatus};
use bytes::Bytes;
use http_body_util::Full;
use hub::Hub;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::door::Answer;
use crate::listen::Seldom;
use crate::metrics::Metrics;

/// A worker that has not ticked for this long does not turn any more. It ticks once a second.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Longest an operator's connection may stay: a forgotten one must not hold a descriptor for ever.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

pub(crate) struct Admin {
    pub(crate) hub: Arc<Hub>,
    pub(crate) backplane: Arc<dyn Cluster>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: Arc<AtomicBool>,
    /// How long the backplane may be away before the node stops taking traffic.
    pub(crate) down_grace: Duration,
    pub(crate) began: Instant,
}

impl Admin {
    /// Serves until it is dropped. Must run in a `LocalSet`.
    pub(crate) async fn serve(self: Rc<Self>, listener: TcpListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut failing = Seldom::default();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if let Some(times) = failing.note() {
                        tracing::warn!(%error, times, "cannot accept on the admin port");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = self.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(|request| admin.answer(request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Ok(json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"GET only"}"#.into()));
        }
        Ok(match request.uri().path() {
            "/metrics" => self.metrics_text(),
            "/live" | "/health" => self.live(),
            "/ready" => self.ready(),
            _ => json(StatusCode::NOT_FOUND, r#"{"error":"There are /metrics, /live, /health and /ready"}"#.into()),
        })
    }

    fn metrics_text(&self) -> Answer {
        let (ready, draining) = (self.obstacle().is_none(), self.draining.load(Relaxed));
        let text = self.metrics.text(&self.hub, &*self.backplane, ready, draining);
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        answer
    }

    /// The process turns: each worker's clock has moved lately.
    fn live(&self) -> Answer {
        let now = self.began.elapsed();
        let stuck = self
            .hub
            .stats()
            .iter()
            .position(|worker| now.saturating_sub(Duration::from_secs(worker.seconds.get())) > STUCK_AFTER);
        match stuck {
            None => json(StatusCode::OK, r#"{"status":"ok"}"#.into()),
            Some(worker) => {
                json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"status":"stuck","part":"worker {worker}"}}"#))
            }
        }
    }

    fn ready(&self) -> Answer {
        match self.obstacle() {
            None => json(StatusCode::OK, r#"{"status":"ready"}"#.into()),
            Some(why) => json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"status":"not ready","part":"{why}"}}"#)),
        }
    }

    /// Why the node may not take traffic.
    fn obstacle(&self) -> Option<&'static str> {
        if self.draining.load(Relaxed) {
            return Some("draining");
        }
        match self.backplane.status() {
            LinkStatus::Up => None,
            LinkStatus::Starting => Some("backplane: no first connection yet"),
            LinkStatus::Down { since } => (since.elapsed() >= self.down_grace).then_some("backplane: no connection"),
        }
    }
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body + "\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
