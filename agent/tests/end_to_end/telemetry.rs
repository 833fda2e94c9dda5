//! What the agent tells of itself over HTTP, and that the figures are true.

use serde_json::json;

use crate::peer::{Credentials, open, runtime, set, within};
use crate::support::Agent;
use crate::view::Watch;

#[test]
fn the_documented_names_are_there_before_anybody_has_come() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let (status, text) = agent.page("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for (name, kind) in [
        ("configstream_subscribers", "gauge"),
        ("configstream_snapshots_sent", "counter"),
        ("configstream_updates_sent", "counter"),
        ("configstream_discontinuities", "counter"),
        ("configstream_dropped_updates", "counter"),
        ("configstream_refused_handshakes", "counter"),
        ("configstream_refused_connections", "counter"),
    ] {
        assert!(
            text.contains(&format!("\n# TYPE {name} {kind}\n")),
            "{name}: {text}"
        );
        assert!(text.contains(&format!("\n{name} 0\n")), "{name}: {text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}: {text}");
    }
    // Every line is one that Prometheus reads.
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("configstream_"), "{line}");
        value.parse::<f64>().unwrap();
    }
}

#[test]
fn counters_count_what_happened() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let (_, mut one) = open(&client).await;
        let (_, mut other) = open(&client).await;
        let last = async {
            for value in 0..10 {
                set(&client, "mine.number", value).await;
            }
            // What changes nothing is not sent.
            set(&client, "mine.number", 9).await
        }
        .await;
        for events in [&mut one, &mut other] {
            while within(events.next()).await.unwrap().sequence().get() < last {}
        }
    });
    // A subscriber that has gone is counted out; what it got stays.
    agent.until("both have gone", |agent| {
        agent.metric("configstream_subscribers") < 0.5
    });
    let metrics = [
        "snapshots_sent",
        "updates_sent",
        "discontinuities",
        "dropped_updates",
    ];
    let figures = metrics.map(|name| agent.metric(&format!("configstream_{name}")));
    // Both streams were there before the first change, or got it in their snapshot: 2 snapshots and at most 20 updates.
    assert_eq!((figures[0], figures[2], figures[3]), (2.0, 0.0, 0.0));
    assert!(figures[1] <= 20.0, "{figures:?}");
    assert_eq!(agent.metric("configstream_sequence_id"), 11.0);
}

#[test]
fn subscribers_and_updates_show_while_they_are_there() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let watches = [(); 3].map(|()| Watch::start(&agent));
    for watch in &watches {
        watch.next();
    }
    assert_eq!(agent.metric("configstream_subscribers"), 3.0);
    assert_eq!(agent.metric("configstream_snapshots_sent"), 3.0);
    for value in 1..5 {
        agent
            .verb(&["set", "mine.number", &value.to_string()])
            .json();
        for watch in &watches {
            watch.update();
        }
    }
    assert_eq!(agent.metric("configstream_updates_sent"), 12.0);
    agent.verb(&["unset", "mine.number"]).json();
    for watch in &watches {
        watch.snapshot();
    }
    // A snapshot that says what updates cannot is no gap and no drop.
    assert_eq!(agent.metric("configstream_snapshots_sent"), 6.0);
    assert_eq!(agent.metric("configstream_discontinuities"), 0.0);
    assert_eq!(agent.metric("configstream_dropped_updates"), 0.0);
    let status = agent.status();
    assert_eq!(status["server"]["streams"], 3);
    assert_eq!(status["agents"].as_array().unwrap().len(), 3);
    drop(watches);
    agent.until("they have gone", |agent| {
        agent.metric("configstream_subscribers") < 0.5
    });
}

#[test]
fn health_and_status_answer_and_nothing_shows_a_value() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &["--set", "api_key=a-secret-of-mine"]);
    let watch = Watch::start(&agent);
    assert_eq!(watch.snapshot()["api_key"], json!(["cli", "********"]));
    assert_eq!(
        agent.page("/healthz"),
        ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned())
    );
    let status = agent.status();
    assert_eq!(status["head"]["sequence"], watch.reached());
    assert_eq!(status["origin"], "core-agent");
    for path in ["/", "/status", "/metrics", "/healthz"] {
        let (line, body) = agent.page(path);
        assert_eq!(line, "HTTP/1.1 200 OK", "{path}");
        assert!(!body.contains("a-secret-of-mine"), "{path}: {body}");
    }
    assert_eq!(agent.page("/../ipc_cert.pem").0, "HTTP/1.1 404 Not Found");
}
