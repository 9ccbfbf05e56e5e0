//! The operator's listener: `/healthz`, `/readyz`, `/metrics`. Loopback unless configured otherwise; it asks for no
//! credential and shows nothing of any tenant.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

/// What the operator's listener shows; made by the node.
pub(crate) trait Health: Send + Sync + 'static {
    /// Each dependency's state.
    fn ready(&self) -> impl Future<Output = Readiness> + Send;
    /// OpenMetrics text.
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    pub(crate) registry: &'static str,
    /// Down too when it is older than this claimd needs, as after a restore.
    pub(crate) schema: &'static str,
    pub(crate) claim_cache: &'static str,
    /// Down when this machine's is a minute off that of the database, or more.
    pub(crate) clock: &'static str,
    /// How far the database's is ahead.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) draining: bool,
}

pub(crate) fn router<H: Health>(health: Arc<H>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<H>))
        .route("/metrics", get(metrics::<H>))
        .with_state(health)
}

async fn ready<H: Health>(State(health): State<Arc<H>>) -> Response {
    let readiness = health.ready().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

async fn metrics<H: Health>(State(health): State<Arc<H>>) -> Response {
    let text = health.metrics().await;
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
