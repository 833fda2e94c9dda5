//! Sessions: how they begin, what they authorise, how they end.

mod support;

use std::time::Duration;

use configstream_grpc::{Registration, Sessions};
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use configstream_proto::datadog::remoteagent::v1::remote_agent_client::RemoteAgentClient;
use configstream_proto::datadog::remoteagent::v1::{
    Event, RefreshRemoteAgentRequest, RegisterRemoteAgentRequest, ReportRemoteAgentEventRequest,
};
use support::{
    BEARER, FakeClock, Host, REGISTER_FIRST, eventually, expect_end, expect_snapshot, request, told,
};
use tonic::Code;

#[tokio::test]
async fn a_registration_gets_a_version_4_uuid_and_an_interval() {
    let host = Host::start().await;
    let client = host.client().await;
    let first = client.register(&Registration::new("remote")).await.unwrap();
    let id = uuid::Uuid::parse_str(&first.id).unwrap();
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(first.id, id.hyphenated().to_string());
    assert_eq!(first.refresh_interval, Duration::from_secs(10));

    let second = client.register(&Registration::new("remote")).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(host.handle.stats().sessions, 2);
}

#[tokio::test]
async fn a_registration_that_cannot_be_right_is_refused() {
    let host = Host::start().await;
    let client = host.client().await;
    let text = "remote agent display name must not be empty or whitespace-only";
    let refused = client.register(&Registration::new(" \t")).await;
    assert_eq!(told(refused), (Code::InvalidArgument, text.into()));

    let mut registration = Registration::new("remote");
    registration.api_endpoint_uri = "x://y".into();
    let text = "unsupported api_endpoint_uri scheme \"x\" (expected one of: unix, https, vsock)";
    assert_eq!(
        told(client.register(&registration).await),
        (Code::InvalidArgument, text.into())
    );
    registration.api_endpoint_uri = "vsock://nowhere".into();
    assert_eq!(
        told(client.register(&registration).await).0,
        Code::InvalidArgument
    );
    assert_eq!(host.handle.stats().sessions, 0);
}

#[tokio::test]
async fn a_stream_without_a_session_is_told_why() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let mut client = AgentSecureClient::new(channel);
    let (_, session) = host.session().await;
    let cases: [(&[&str], Code, String); 5] = [
        (
            &[],
            Code::Unauthenticated,
            format!("session_id required in metadata: {REGISTER_FIRST}"),
        ),
        (
            &[""],
            Code::Unauthenticated,
            format!("session_id cannot be empty: {REGISTER_FIRST}"),
        ),
        (
            &["", &session.id],
            Code::Unauthenticated,
            format!("session_id cannot be empty: {REGISTER_FIRST}"),
        ),
        (
            &["x'y"],
            Code::PermissionDenied,
            format!("session_id 'x'y' not found: {REGISTER_FIRST}"),
        ),
        (
            &["z", &session.id],
            Code::PermissionDenied,
            format!("session_id 'z' not found: {REGISTER_FIRST}"),
        ),
    ];
    for (ids, code, text) in cases {
        let mut metadata = vec![("authorization", BEARER)];
        metadata.extend(ids.iter().map(|id| ("session_id", *id)));
        let refused = client
            .stream_config_events(request(ConfigStreamRequest::default(), &metadata))
            .await;
        assert_eq!(told(refused), (code, text));
    }
    let metadata = [
        ("authorization", BEARER),
        ("session_id", &session.id),
        ("session_id", "z"),
    ];
    client
        .stream_config_events(request(ConfigStreamRequest::default(), &metadata))
        .await
        .unwrap();
}

#[tokio::test]
async fn without_a_registry_there_are_no_streams() {
    let host = Host::start_with(|server| server.sessions(Sessions::disabled())).await;
    let client = host.client().await;
    let text = "remote agent registry not enabled";
    assert_eq!(
        told(client.stream("x", "").await),
        (Code::Unimplemented, text.into())
    );
    assert_eq!(
        told(client.register(&Registration::new("")).await),
        (Code::Unimplemented, text.into())
    );
    assert_eq!(
        told(client.refresh("x").await),
        (Code::Unimplemented, text.into())
    );
}

#[tokio::test]
async fn both_services_share_one_table() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let mut remote = RemoteAgentClient::new(channel);
    let token = [("authorization", BEARER)];
    let message = RegisterRemoteAgentRequest {
        display_name: "x".into(),
        ..Default::default()
    };
    let session_id = remote
        .register_remote_agent(request(message, &token))
        .await
        .unwrap()
        .into_inner()
        .session_id;

    let (client, session) = host.session().await;
    client.refresh(&session_id).await.unwrap();
    expect_snapshot(&mut client.stream("x", &session_id).await.unwrap()).await;
    let message = RefreshRemoteAgentRequest {
        session_id: session.id.clone(),
    };
    remote
        .refresh_remote_agent(request(message, &token))
        .await
        .unwrap();

    let event = Event {
        message: "a key was refused".into(),
        details: None,
    };
    let report = |session_id: &str| {
        let message = ReportRemoteAgentEventRequest {
            session_id: session_id.into(),
            events: vec![event.clone()],
        };
        request(message, &token)
    };
    remote
        .report_remote_agent_event(report(&session.id))
        .await
        .unwrap();
    let refused = remote.report_remote_agent_event(report("nobody")).await;
    assert_eq!(
        told(refused),
        (
            Code::NotFound,
            "no remote agent found with session ID".into()
        )
    );
}

#[tokio::test]
async fn a_full_table_makes_room_where_a_session_has_no_stream() {
    let sessions = Sessions::default().limit(2);
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let registration = Registration::new("remote");
    let (_first_events, _) = host.stream().await;
    let (second_client, second) = host.session().await;
    let third = host.client().await;
    // One without a stream makes room, and one with a stream does not.
    let third_session = third.register(&registration).await.unwrap();
    assert_eq!(
        told(second_client.refresh(&second.id).await).0,
        Code::NotFound
    );
    let _third_events = third.stream("x", &third_session.id).await.unwrap();
    let text = "too many remote agents (at most 2)";
    assert_eq!(
        told(second_client.register(&registration).await),
        (Code::ResourceExhausted, text.into())
    );
}

#[tokio::test]
async fn refreshing_keeps_a_session_and_idling_loses_it() {
    let clock = FakeClock::new();
    let host =
        Host::start_with(|server| server.sessions(Sessions::default().clock(clock.reader()))).await;
    let (client, session) = host.session().await;
    for _ in 0..4 {
        clock.advance(Duration::from_secs(59));
        client.refresh(&session.id).await.unwrap();
    }
    clock.advance(Duration::from_secs(60));
    let text = "no remote agent found with session ID";
    assert_eq!(
        told(client.refresh(&session.id).await),
        (Code::NotFound, text.into())
    );
    let text = format!("session_id '{}' not found: {REGISTER_FIRST}", session.id);
    assert_eq!(
        told(client.stream("x", &session.id).await),
        (Code::PermissionDenied, text)
    );
}

#[tokio::test]
async fn an_open_stream_is_life() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .sweep_interval(Duration::from_millis(5));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let (mut events, _) = host.stream().await;
    for value in 0..5 {
        clock.advance(Duration::from_secs(59));
        // Nothing to take is life as well: the sweep notices.
        eventually("the session is young again", || {
            host.handle.agents()[0].idle < Duration::from_secs(1)
        })
        .await;
        host.set("a", value);
        support::expect_update(&mut events).await;
    }
    assert_eq!(host.handle.agents().len(), 1);
}

#[tokio::test]
async fn a_session_that_expires_takes_its_stream_along() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .sweep_interval(Duration::from_millis(5));
    let limits = configstream_grpc::Limits::default().stall_timeout(Duration::from_secs(3600));
    let host = Host::start_with(|server| server.sessions(sessions).limits(limits)).await;
    let (mut events, session) = host.stalled_stream().await;

    clock.advance(Duration::from_secs(60));
    eventually("the session expires", || host.handle.stats().sessions == 0).await;
    let status = expect_end(&mut events).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        format!("session_id '{}' not found: {REGISTER_FIRST}", session.id)
    );
    eventually("the stream is gone", || host.handle.stats().streams == 0).await;
}

#[tokio::test]
async fn a_stream_that_takes_nothing_loses_its_connection() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .idle_timeout(Duration::from_secs(3600))
        .sweep_interval(Duration::from_millis(5));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let (mut events, _) = host.stalled_stream().await;
    let before = host.handle.stats();
    assert_eq!((before.connections, before.streams), (1, 1));

    // The stall begins at the first sweep that sees it.
    eventually("the connection is dropped", || {
        clock.advance(Duration::from_secs(1));
        host.handle.stats().connections == 0
    })
    .await;
    let status = expect_end(&mut events).await;
    assert_ne!(status.code(), Code::Ok);
    assert_eq!(
        (host.handle.stats().sessions, host.handle.stats().streams),
        (1, 0)
    );
}
