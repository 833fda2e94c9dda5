//! Status, health and metrics over HTTP, for people and for what scrapes and probes.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | Prometheus text |
//! | `/healthz` | 200 `ok`; 503 once the agent shuts down |
//! | `/status` | JSON: see [`Status`] |
//!
//! Nothing here shows the value of a setting, and nothing changes anything.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::status::{Status, StatusSource};

/// What the pages show.
pub trait Pages: Send + Sync + 'static {
    /// For `/status`.
    fn status(&self) -> Status;

    /// For `/healthz`.
    fn is_healthy(&self) -> bool;

    /// Brings metrics up to date that are looked at rather than counted.
    fn refresh_metrics(&self);
}

impl Pages for StatusSource {
    fn status(&self) -> Status {
        Self::status(self)
    }

    fn is_healthy(&self) -> bool {
        !self.engine.is_closed()
    }

    fn refresh_metrics(&self) {
        Self::refresh_metrics(self);
    }
}

/// The routes of the HTTP port.
pub fn router(pages: Arc<dyn Pages>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/status", get(show_status))
        .route("/", get(show_index))
        .with_state(Shared { pages, metrics })
}

#[derive(Clone)]
struct Shared {
    pages: Arc<dyn Pages>,
    metrics: PrometheusHandle,
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    shared.pages.refresh_metrics();
    shared.metrics.run_upkeep();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        shared.metrics.render(),
    )
}

async fn show_health(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.pages.is_healthy() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    }
}

async fn show_status(State(shared): State<Shared>) -> impl IntoResponse {
    Json(shared.pages.status())
}

async fn show_index() -> &'static str {
    "configstream\n\n/metrics\n/healthz\n/status\n"
}
