//! Who is let in: certificate, key, token.

mod support;

use std::sync::Arc;

use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::{ConfigStreamRequest, HostnameRequest};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use rustls::client::ResolvesClientCert;
use support::{Host, Nobody, Pem, Shows, eventually, request, told};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn no_certificate_but_the_pinned_one_with_its_key_reaches_a_handler() {
    let host = Host::start().await;
    let other = Pem::generate();
    let stolen = Pem {
        key: other.key.clone(),
        ..host.pem.clone()
    };
    let strangers: [Arc<dyn ResolvesClientCert>; 3] = [
        Arc::new(Nobody),
        Arc::new(Shows::new(&other)),
        Arc::new(Shows::new(&stolen)),
    ];
    for (count, stranger) in (1..).zip(strangers) {
        let mut tls = host.pem.identity().client_config();
        tls.client_auth_cert_resolver = stranger;
        // In TLS 1.3 a client may learn of its refusal at its first read only.
        if let Ok(channel) = host.channel(tls).await {
            AgentClient::new(channel)
                .get_hostname(HostnameRequest {})
                .await
                .unwrap_err();
        }
        eventually("the handshake is counted", || {
            host.handle.stats().refused_handshakes == count
        })
        .await;
    }
    assert_eq!(host.handle.stats().sessions, 0);

    host.client().await.hostname().await.unwrap();
    assert_eq!(host.handle.stats().refused_handshakes, 3);
}

#[tokio::test]
async fn a_client_turns_away_from_a_server_it_does_not_know() {
    let host = Host::start().await;
    let stranger = Pem::generate().identity();
    let address = host.address.to_string().parse().unwrap();
    let connector = configstream_grpc::Connector::new(address, &stranger, host.token.clone());
    let error = connector.connect().await.unwrap_err().to_string();
    assert!(error.contains(&host.address.to_string()), "{error}");
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn only_the_token_opens_calls() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let mut client = AgentSecureClient::new(channel);
    let right = "0123456789abcdef".repeat(4);
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
        &right,
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
