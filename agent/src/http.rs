//! Status, health and metrics over HTTP, for people and for what scrapes and probes.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | a page that shows the status, live; with `/page.css`, `/page.js` and `/icon.svg` |
//! | `/status` | JSON: see [`Status`](crate::status::Status); `?agents=N` gives N agents, those furthest behind first; never more than [`MOST_AGENTS`] |
//! | `/healthz` | 200 `ok`; 503 once the agent shuts down |
//! | `/readyz` | 200 `ready`, and a line per source whose last good content stays in force; 503 and why not |
//! | `/metrics` | Prometheus text |
//!
//! Texts that peers and files choose are shown with every character that hides, moves or controls
//! escaped.
//!
//! Nothing here shows the value of a setting, and nothing changes anything: there is GET and HEAD.
//!
//! Who asks needs no credentials, so little is granted: one request per connection, in so much [time](Grants::patience),
//! on so many [connections](Grants::connections) at a time. Whoever comes then takes the place of who has been here longest, so
//! that nobody keeps a probe out. The page is no exception: it asks for `/status` once a second, so that who watches holds
//! nothing here in between, and is cut like anybody if he does not read.
//!
//! A web page from elsewhere can make a browser ask here. So on loopback only [names](Hosts) that mean this machine are answered
//! (421 otherwise), and each answer says what may not be done with it.

mod guard;
mod serve;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::json;
use crate::status::StatusSource;

pub use guard::Hosts;
pub(crate) use serve::CONNECTIONS;
pub use serve::{Grants, serve};

/// The routes of the HTTP port.
pub fn router(status: Arc<StatusSource>, metrics: PrometheusHandle, hosts: Hosts) -> Router {
    Router::new()
        .route("/", get(fixed("text/html; charset=utf-8", PAGE)))
        .route("/page.css", get(fixed("text/css; charset=utf-8", STYLE)))
        .route(
            "/page.js",
            get(fixed("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/icon.svg", get(fixed("image/svg+xml", ICON)))
        .route("/status", get(show_status))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .route("/metrics", get(show_metrics))
        .layer(middleware::from_fn_with_state(
            Arc::new(hosts),
            guard::check,
        ))
        .with_state(Shared {
            status,
            metrics,
            rendered: Arc::default(),
        })
}

#[derive(Clone)]
struct Shared {
    status: Arc<StatusSource>,
    metrics: PrometheusHandle,
    /// To gather the status takes milliseconds if there are thousands of agents. So requests take
    /// turns, and all that have waited for a turn with the same question get one answer.
    rendered: Arc<Mutex<Option<Rendered>>>,
}

/// An answer of `/status`.
struct Rendered {
    agents: Option<usize>,
    begun: Instant,
    json: Bytes,
}

/// What `/status` can be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// This many agents.
    agents: Option<usize>,
}

async fn show_status(
    State(shared): State<Shared>,
    Query(wanted): Query<Wanted>,
) -> Result<impl IntoResponse, StatusCode> {
    let asked = Instant::now();
    let mut rendered = shared.rendered.lock_owned().await;
    let agents = wanted.agents;
    let last = rendered.as_ref();
    // What began after it was asked for is as new as what would begin now.
    let last = last.filter(|last| last.agents == agents && last.begun >= asked);
    let json = match last {
        Some(last) => last.json.clone(),
        None => {
            let begun = Instant::now();
            // Away from where streams are served. It fails only when the runtime stops.
            let gathered = spawn_blocking(move || {
                let mut status = shared.status.status();
                if agents.is_some() || status.agents.len() > MOST_AGENTS {
                    status.keep_agents(agents.unwrap_or(MOST_AGENTS).min(MOST_AGENTS));
                }
                let mut status = serde_json::to_value(&status)?;
                json::make_printable(&mut status);
                serde_json::to_vec(&status)
            });
            let Ok(Ok(json)) = gathered.await else {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            };
            let json = Bytes::from(json);
            *rendered = Some(Rendered {
                agents,
                begun,
                json: json.clone(),
            });
            json
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], json))
}

/// How many agents `/status` gives at most: a request needs no credentials, and its peer need not
/// read the answer.
pub const MOST_AGENTS: usize = 500;

async fn show_health(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.status.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, STOPPING)
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Whoever can ask is served: HTTP answers only when the first state streams, and a bad file leaves the last good state in
/// force.
async fn show_readiness(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.status.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, STOPPING.to_owned());
    }
    let mut lines = "ready\n".to_owned();
    for degradation in shared.status.degradations() {
        lines.push_str(&degradation);
        lines.push('\n');
    }
    (StatusCode::OK, lines)
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    shared.status.refresh_metrics();
    shared.metrics.run_upkeep();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        shared.metrics.render(),
    )
}

/// An answer that is always the same: a part of the page.
fn fixed(
    kind: &'static str,
    content: &'static str,
) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], content)
}

const STOPPING: &str = "shutting down\n";

const PAGE: &str = include_str!("http/page.html");
const STYLE: &str = include_str!("http/page.css");
const SCRIPT: &str = include_str!("http/page.js");
const ICON: &str = include_str!("http/icon.svg");
