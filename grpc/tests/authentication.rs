//! Who is let in: certificate, key, token.

mod support;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use configstream_grpc::{Connector, Registration, Sessions, Token};
use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::config_event::Event;
use configstream_proto::datadog::model::v1::{ConfigStreamRequest, HostnameRequest};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use rustls::client::ResolvesClientCert;
use support::{
    BEARER, FakeClock, Host, Nobody, Pem, REGISTER_FIRST, Shows, TOKEN, eventually, request, told,
    within_deadline,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Code and text.
type Told = (Code, String);

/// Every certificate with every token with every session: a hundred cells.
#[tokio::test]
async fn only_the_right_certificate_key_token_and_session_open_a_stream() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .sweep_interval(Duration::from_secs(3600));
    let host = Host::start_with(|server| server.sessions(sessions)).await;
    let (client, expired) = host.session().await;
    clock.advance(Sessions::DEFAULT_IDLE_TIMEOUT);
    let right = client.register(&Registration::new("remote")).await.unwrap();
    clock.advance(Duration::from_secs(1));

    let right_session = right.id.as_str();
    let not_found = |id: &str| {
        (
            Code::PermissionDenied,
            format!("session_id '{id}' not found: {REGISTER_FIRST}"),
        )
    };
    let sessions: [(Option<&str>, Option<Told>); 5] = [
        (
            None,
            Some((
                Code::Unauthenticated,
                format!("session_id required in metadata: {REGISTER_FIRST}"),
            )),
        ),
        (
            Some(""),
            Some((
                Code::Unauthenticated,
                format!("session_id cannot be empty: {REGISTER_FIRST}"),
            )),
        ),
        (Some("unknown"), Some(not_found("unknown"))),
        (Some(&expired.id), Some(not_found(&expired.id))),
        (Some(right_session), None),
    ];
    let basic = format!("Basic {TOKEN}");
    let wrong = format!("Bearer {}", "00".repeat(32));
    let invalid = Some("invalid authorization token");
    let tokens = [
        (
            None,
            Some("authorization required in metadata: Bearer <token>"),
        ),
        (Some(wrong.as_str()), invalid),
        (Some(basic.as_str()), invalid),
        (Some(BEARER), None),
    ];
    let certificates: [(&str, Arc<dyn ResolvesClientCert>, bool); 5] = [
        ("no certificate", Arc::new(Nobody), false),
        (
            "another certificate",
            Arc::new(Shows::new(&Pem::generate_for("somebody else"))),
            false,
        ),
        (
            "the same subject with another key",
            Arc::new(Shows::new(&Pem::generate())),
            false,
        ),
        (
            "the right certificate with another key",
            Arc::new(Shows::new(&host.pem.with_another_key())),
            false,
        ),
        ("the right one", Arc::new(Shows::new(&host.pem)), true),
    ];

    let (mut cells, mut refused) = (0, 0);
    for (certificate, shown, trusted) in &certificates {
        let mut tls = host.pem.identity().client_config();
        tls.client_auth_cert_resolver = shown.clone();
        for (token, token_text) in &tokens {
            for (session, session_told) in &sessions {
                let cell = format!("{certificate}, {token:?}, {session:?}");
                let metadata: Vec<_> = [("authorization", *token), ("session_id", *session)]
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)))
                    .collect();
                let channel = host.channel(tls.clone()).await;
                let answer = match channel {
                    Ok(channel) => {
                        let message = request(ConfigStreamRequest::default(), &metadata);
                        let call = AgentSecureClient::new(channel)
                            .stream_config_events(message)
                            .await;
                        Some(call)
                    }
                    // In TLS 1.3 a client may learn of its refusal at its first read only.
                    Err(_) => None,
                };
                if *trusted {
                    let answer = answer.expect("a handshake");
                    let wanted = match token_text {
                        Some(text) => Some((Code::Unauthenticated, (*text).to_owned())),
                        None => session_told.clone(),
                    };
                    match wanted {
                        Some(wanted) => assert_eq!(told(answer), wanted, "{cell}"),
                        None => {
                            let first = answer.unwrap().into_inner().message().await.unwrap();
                            let event = first.unwrap().event;
                            assert!(matches!(event, Some(Event::Snapshot(_))), "{cell}");
                        }
                    }
                } else {
                    // Refused: no answer of ours, …
                    if let Some(answer) = answer {
                        let status = answer.expect_err("no stream");
                        assert!(status.source().is_some(), "{cell}: {status:?}");
                    }
                    // … counted, …
                    refused += 1;
                    eventually("the handshake is counted", || {
                        host.handle.stats().refused_handshakes == refused
                    })
                    .await;
                    // … and no handler reached: a session that a handler has seen shows life.
                    let agents = host.handle.agents();
                    let agent = agents
                        .iter()
                        .find(|agent| agent.session_id == right_session);
                    assert_eq!(agent.unwrap().idle, Duration::from_secs(1), "{cell}");
                    assert_eq!(host.handle.stats().streams, 0, "{cell}");
                }
                cells += 1;
            }
        }
    }
    assert_eq!((cells, refused), (100, 80));
}

#[tokio::test]
async fn a_client_turns_away_from_a_server_that_is_not_the_one_it_knows() {
    let pem = Pem::generate();
    for (shown, why) in [
        (Pem::generate_for("somebody else"), "certificate"),
        (Pem::generate(), "certificate"),
        (pem.with_another_key(), "signature"),
    ] {
        let mut tls = pem.identity().server_config();
        tls.cert_resolver = Arc::new(Shows::new(&shown));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            match acceptor.accept(stream).await {
                // Whatever a client lets slip to a server that it does not trust would be here.
                Ok(mut stream) => {
                    let mut bytes = Vec::new();
                    let _ = stream.read_to_end(&mut bytes).await;
                    bytes
                }
                Err(_) => Vec::new(),
            }
        });
        let token = Token::parse(TOKEN).unwrap();
        let connector = Connector::new(address.parse().unwrap(), &pem.identity(), token);
        let error = connector.connect().await.unwrap_err().to_string();
        assert!(error.contains(&address), "{error}");
        assert!(error.to_lowercase().contains(why), "{error}");
        assert!(within_deadline(serving).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn only_the_token_opens_calls() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let mut client = AgentSecureClient::new(channel);
    let right = TOKEN;
    let message = || RegisterRemoteAgentRequest {
        display_name: "x".into(),
        ..Default::default()
    };
    for scheme in ["Bearer", "bearer", "bEARER"] {
        let metadata = format!("{scheme} {right}");
        client
            .register_remote_agent(request(message(), &[("authorization", &metadata)]))
            .await
            .unwrap();
    }
    for wrong in [
        right,
        &format!("Basic {right}"),
        &format!("Bearer {}", "00".repeat(32)),
        "Bearer",
        "Bearer ",
    ] {
        let refused = client
            .register_remote_agent(request(message(), &[("authorization", wrong)]))
            .await;
        assert_eq!(
            told(refused),
            (Code::Unauthenticated, "invalid authorization token".into()),
            "{wrong}"
        );
    }
    let refused = client.register_remote_agent(message()).await;
    let text = "authorization required in metadata: Bearer <token>";
    assert_eq!(told(refused), (Code::Unauthenticated, text.into()));
    assert_eq!(host.handle.stats().sessions, 3);
}

#[tokio::test]
async fn the_host_name_alone_needs_no_token() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let reply = AgentClient::new(channel.clone())
        .get_hostname(HostnameRequest {})
        .await
        .unwrap();
    assert_eq!(reply.into_inner().hostname, "host-1");

    let stream = AgentSecureClient::new(channel.clone())
        .stream_config_events(ConfigStreamRequest::default())
        .await;
    assert_eq!(told(stream).0, Code::Unauthenticated);
    let health = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    assert_eq!(told(health).0, Code::Unauthenticated);
}

#[tokio::test]
async fn the_token_is_asked_for_before_the_session() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let message = request(
        ConfigStreamRequest::default(),
        &[("authorization", "Bearer no")],
    );
    let refused = AgentSecureClient::new(channel)
        .stream_config_events(message)
        .await;
    assert_eq!(
        told(refused),
        (Code::Unauthenticated, "invalid authorization token".into())
    );
}
