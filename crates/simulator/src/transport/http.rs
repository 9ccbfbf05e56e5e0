//! HTTP: the device API, and the client that makers and owners use too.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::{Answer, Manner};
use crate::expect::PATIENCE;
use crate::trouble::Trouble;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Kept-alive connections to one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Web {
    pool: Pool<HttpConnector, Body>,
    base: String,
}

/// A response.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Response {
    /// The body as JSON; `null` when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Web {
    pub(crate) fn new(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self { pool, base: format!("http://{address}") }
    }

    /// Where this client speaks to.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response, Trouble> {
        // A path may hold a token, so no error shows it.
        let trouble = |why: String| Trouble::unreachable(format!("HTTP at {}", self.base), why);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| trouble(error.to_string()))?;
        let answered = async {
            let response = self.pool.request(request).await.map_err(|error| why(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(Response { status, body })
        };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answered) => answered.map_err(trouble),
            Err(_) => Err(trouble(format!("nothing within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// The innermost reason: "connection refused" says more than "client error".
fn why(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A body that is there at once.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body with a pause in its middle.
fn halting(bytes: &[u8], pause: std::time::Duration) -> Body {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let parts = [Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
    let stream = futures_util::stream::unfold((0, parts), move |(at, parts)| async move {
        let part = parts.get(at)?.clone();
        if at > 0 {
            tokio::time::sleep(pause).await;
        }
        Some((Ok(Frame::data(part)), (at + 1, parts)))
    });
    StreamBody::new(stream).boxed_unsync()
}

/// A device that speaks HTTP.
pub(super) struct Client {
    web: Web,
    path: String,
}

impl Client {
    pub(super) fn new(address: &str, token: &str) -> Self {
        Self { web: Web::new(address), path: format!("/api/v1/{token}/claim") }
    }

    pub(super) async fn claim(&self, body: &[u8], manner: Manner) -> Answer {
        if manner.duplicate {
            // HTTP has no duplicates on the wire; a device that saw no answer sends again.
            let _ = self.post(whole(body.to_vec())).await;
        }
        let body = match manner.slow {
            Some(pause) => halting(body, pause),
            None => whole(body.to_vec()),
        };
        let answer = self.post(body);
        if manner.drop {
            // Long enough to be sent; then the connection is closed under the server's hands.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(1), answer).await;
            return Answer::Dropped;
        }
        answer.await
    }

    async fn post(&self, body: Body) -> Answer {
        let headers = [("content-type", "application/json")];
        match self.web.send(Method::POST, &self.path, &headers, body).await {
            Ok(response) if response.status == StatusCode::OK => Answer::Acked,
            Ok(response) => Answer::Refused(reason(&response)),
            Err(_) => Answer::Lost,
        }
    }
}

/// claimd names the outcome in its problem documents; of others the status is all there is.
fn reason(response: &Response) -> String {
    match response.json()["outcome"].as_str() {
        Some(outcome) => outcome.to_owned(),
        None => format!("status {}", response.status.as_u16()),
    }
}
