//! Sessions: what is refused without one, and how long one lives.

use std::time::Duration;

use configstream_grpc::Client;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use tonic::Code;

use crate::peer::{Credentials, open, refused, registration, request, runtime, set, within};
use crate::support::{Agent, Done, client};

const REGISTER_FIRST: &str =
    "remote agent must register with RAR before subscribing to config stream";

#[test]
fn a_stream_needs_a_live_session() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let right = Credentials::of(&agent);
    runtime().block_on(async {
        let client = right.connect().await.unwrap();
        let bearer = format!("Bearer {}", right.token);
        let mut raw = AgentSecureClient::new(right.channel().await);
        let none = request(
            ConfigStreamRequest::default(),
            &[("authorization", &bearer)],
        );
        refused(
            &raw.stream_config_events(none).await.unwrap_err(),
            Code::Unauthenticated,
            &format!("session_id required in metadata: {REGISTER_FIRST}"),
        );
        refused(
            &client.stream("x", "").await.unwrap_err(),
            Code::Unauthenticated,
            &format!("session_id cannot be empty: {REGISTER_FIRST}"),
        );
        refused(
            &client.stream("x", "never-given").await.unwrap_err(),
            Code::PermissionDenied,
            &format!("session_id 'never-given' not found: {REGISTER_FIRST}"),
        );
        refused(
            &client.refresh("never-given").await.unwrap_err(),
            Code::NotFound,
            "no remote agent found with session ID",
        );
        // Only the first one counts.
        let session = client.register(&registration()).await.unwrap();
        for (ids, good) in [
            ([session.id.as_str(), "never-given"], true),
            (["never-given", session.id.as_str()], false),
        ] {
            let both = request(
                ConfigStreamRequest::default(),
                &[
                    ("authorization", &bearer),
                    ("session_id", ids[0]),
                    ("session_id", ids[1]),
                ],
            );
            assert_eq!(raw.stream_config_events(both).await.is_ok(), good);
        }
        let mut blank = registration();
        blank.display_name = " \t".to_owned();
        refused(
            &client.register(&blank).await.unwrap_err(),
            Code::InvalidArgument,
            "remote agent display name must not be empty or whitespace-only",
        );
        let mut odd = registration();
        odd.api_endpoint_uri = "ftp://here".to_owned();
        refused(
            &client.register(&odd).await.unwrap_err(),
            Code::InvalidArgument,
            "unsupported api_endpoint_uri scheme \"ftp\" (expected one of: unix, https, vsock)",
        );
    });
}

#[test]
fn a_session_without_a_sign_of_life_expires() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.idle_timeout=500ms"],
    );
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        // One that is left alone, one with a stream.
        let lonely = client.register(&registration()).await.unwrap();
        let (alive, mut events) = open(&client).await;
        within(events.next()).await.unwrap();
        until_agents(&client, 1).await;
        refused(
            &client.stream("x", &lonely.id).await.unwrap_err(),
            Code::PermissionDenied,
            &format!("session_id '{}' not found: {REGISTER_FIRST}", lonely.id),
        );
        refused(
            &client.refresh(&lonely.id).await.unwrap_err(),
            Code::NotFound,
            "no remote agent found with session ID",
        );
        // The stream of the other one goes on.
        let sequence = set(&client, "log_level", "debug").await;
        let event = within(events.next()).await.unwrap();
        assert_eq!(event.sequence().get(), sequence);
        client.refresh(&alive.id).await.unwrap();
        // Without its stream it goes the same way.
        drop(events);
        until_agents(&client, 0).await;
    });
}

async fn until_agents(client: &Client, count: usize) {
    within(async {
        while client.agents().await.unwrap().len() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[test]
fn a_run_longer_than_the_idle_timeout_survives() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.idle_timeout=500ms"],
    );
    let credentials = Credentials::of(&agent);
    let mut command = client();
    command
        .args(["--ipc-address", credentials.host_and_port()])
        .args(["--auth-token", &credentials.token, "--duration", "3s"])
        .arg("--agent-cert-file")
        .arg(root.path().join("ipc_cert.pem"));
    let started = std::time::Instant::now();
    let done = Done::of(&mut command);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.is_empty(), "the stream ended: {done:?}");
    assert!(started.elapsed() >= Duration::from_secs(3));
}

#[test]
fn without_a_registry_nobody_registers_or_streams() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.enabled=false"],
    );
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let text = "remote agent registry not enabled";
        let status = client.register(&registration()).await.unwrap_err();
        refused(&status, Code::Unimplemented, text);
        let status = client.stream("x", "any").await.unwrap_err();
        refused(&status, Code::Unimplemented, text);
        // People still get in.
        assert!(client.get("log_level").await.unwrap().setting.is_some());
    });
}

#[test]
fn the_configuration_bounds_the_sessions() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        root.path(),
        &["--set", "remote_agent.registry.max_sessions=2"],
    );
    runtime().block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let (session, _events) = open(&client).await;
        let _another = open(&client).await;
        let status = client.register(&registration()).await.unwrap_err();
        let text = "too many remote agents (at most 2)";
        refused(&status, Code::ResourceExhausted, text);
        // Those that are there go on.
        client.refresh(&session.id).await.unwrap();
    });
}
