//! What a server offers besides streams: health, reflection, and what clients probe for.

mod support;

use std::future::ready;
use std::time::Duration;

use configstream_grpc::Limits;
use configstream_proto::datadog::api::v1::agent_client::AgentClient;
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::{
    EntityId, FetchEntityRequest, FetchEntityResponse, HostnameReply, HostnameRequest,
    TagCardinality,
};
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use support::{Host, eventually, request, told, within_deadline};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 4] = [
    "configstream.admin.v1.ConfigAdmin",
    "datadog.api.v1.Agent",
    "datadog.api.v1.AgentSecure",
    "datadog.remoteagent.v1.RemoteAgent",
];

#[tokio::test]
async fn every_service_is_healthy() {
    let host = Host::start().await;
    let mut client = HealthClient::new(
        host.channel(host.pem.identity().client_config())
            .await
            .unwrap(),
    );
    for service in SERVICES.into_iter().chain([""]) {
        let message = HealthCheckRequest {
            service: service.into(),
        };
        let reply = client
            .check(authorised(&host, message))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
    }
    let message = HealthCheckRequest {
        service: "nobody".into(),
    };
    assert_eq!(
        told(client.check(authorised(&host, message)).await).0,
        Code::NotFound
    );
}

#[tokio::test]
async fn a_server_that_closes_says_so_to_those_who_watch() {
    let host = Host::start().await;
    let mut client = HealthClient::new(
        host.channel(host.pem.identity().client_config())
            .await
            .unwrap(),
    );
    let message = authorised(&host, HealthCheckRequest::default());
    let mut watch = client.watch(message).await.unwrap().into_inner();
    let mut status = async || watch.message().await.unwrap().unwrap().status();
    assert_eq!(within_deadline(status()).await, ServingStatus::Serving);
    // A watch has no end of its own, so the deadline ends it.
    let closing = tokio::spawn(host.handle.shutdown(Duration::from_millis(200)));
    assert_eq!(within_deadline(status()).await, ServingStatus::NotServing);
    within_deadline(closing).await.unwrap();
}

#[tokio::test]
async fn reflection_lists_every_service_and_its_files() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let question = |message| v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let messages = [
        question(MessageRequest::ListServices(String::new())),
        question(MessageRequest::FileContainingSymbol(
            "datadog.api.v1.AgentSecure.StreamConfigEvents".into(),
        )),
        question(MessageRequest::FileByFilename(
            "google/protobuf/struct.proto".into(),
        )),
    ];
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let message = authorised(&host, tokio_stream::iter(messages));
    let mut answers = client
        .server_reflection_info(message)
        .await
        .unwrap()
        .into_inner();
    let mut answer = async || {
        within_deadline(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    };

    let MessageResponse::ListServicesResponse(list) = answer().await else {
        panic!("no list")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(names.contains(&service), "{service} in {names:?}");
    }
    for _ in 0..2 {
        let MessageResponse::FileDescriptorResponse(file) = answer().await else {
            panic!("no file")
        };
        assert!(!file.file_descriptor_proto.is_empty());
    }
}

#[tokio::test]
async fn reflection_answers_what_nobody_knows_and_goes_on() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let host = Host::start().await;
    let tls = host.pem.identity().client_config();
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(host.channel(tls).await.unwrap());
    let unknown = [
        MessageRequest::FileContainingSymbol("nobody.knows.It".into()),
        MessageRequest::FileByFilename("nobody/knows/it.proto".into()),
        MessageRequest::FileContainingExtension(v1::ExtensionRequest {
            containing_type: "nobody.knows.It".into(),
            extension_number: 7,
        }),
    ];
    let known = MessageRequest::FileContainingSymbol("datadog.api.v1.AgentSecure".into());
    let question = |message_request| v1::ServerReflectionRequest {
        host: "host".into(),
        message_request,
    };
    let questions = unknown
        .iter()
        .chain([&known])
        .map(|message| question(Some(message.clone())))
        // What asks nothing is an error of the stream.
        .chain([question(None)]);
    let questions: Vec<_> = questions.collect();
    let message = authorised(&host, tokio_stream::iter(questions));
    let mut answers = client
        .server_reflection_info(message)
        .await
        .unwrap()
        .into_inner();
    for message in unknown {
        let answer = within_deadline(answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.valid_host, "host");
        assert_eq!(answer.original_request, Some(question(Some(message))));
        let Some(MessageResponse::ErrorResponse(error)) = answer.message_response else {
            panic!("no error: {answer:?}")
        };
        assert_eq!(Code::from(error.error_code), Code::NotFound);
        assert!(!error.error_message.is_empty());
    }
    let answer = within_deadline(answers.message()).await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    ));
    let end = within_deadline(answers.message()).await;
    assert_eq!(told(end).0, Code::InvalidArgument);
}

#[tokio::test]
async fn reflection_is_there_under_its_older_name_too() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    use v1alpha::server_reflection_request::MessageRequest;
    let message = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let message = authorised(&host, tokio_stream::iter([message]));
    let mut answers = client
        .server_reflection_info(message)
        .await
        .unwrap()
        .into_inner();
    let answer = within_deadline(answers.message()).await.unwrap().unwrap();
    use v1alpha::server_reflection_response::MessageResponse;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list: {answer:?}")
    };
    for version in ["v1", "v1alpha"] {
        let name = format!("grpc.reflection.{version}.ServerReflection");
        assert!(list.service.iter().any(|service| service.name == name));
    }
}

#[tokio::test]
async fn the_tagger_knows_every_entity_and_no_tags() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    let id = Some(EntityId {
        prefix: "internal".into(),
        uid: "global-entity-id".into(),
    });
    let cardinality = TagCardinality::High.into();
    let message = authorised(
        &host,
        FetchEntityRequest {
            id: id.clone(),
            cardinality,
        },
    );
    let reply = AgentSecureClient::new(channel)
        .tagger_fetch_entity(message)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        reply,
        FetchEntityResponse {
            id,
            cardinality,
            tags: Vec::new()
        }
    );
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let host = Host::start().await;
    for path in [
        "/datadog.api.v1.AgentSecure/Nothing",
        "/nothing.at.All/Nothing",
    ] {
        let channel = host
            .channel(host.pem.identity().client_config())
            .await
            .unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let refused = client
            .unary(
                authorised(&host, ()),
                http::uri::PathAndQuery::from_static(path),
                codec,
            )
            .await;
        assert_eq!(told(refused).0, Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused() {
    let limits = Limits::default().request_bytes(1_000);
    let host = Host::start_with(|server| server.limits(limits)).await;
    let client = host.client().await;
    let refused = client
        .register(&configstream_grpc::Registration::new("x".repeat(2_000)))
        .await;
    assert_eq!(told(refused).0, Code::OutOfRange);
    assert_eq!(host.handle.stats().sessions, 0);
    let registration = configstream_grpc::Registration::new("x");
    let session = client.register(&registration).await.unwrap();
    let refused = client.stream(&"x".repeat(2_000), &session.id).await;
    assert_eq!(told(refused).0, Code::OutOfRange);
}

#[tokio::test]
async fn who_needs_no_token_sends_no_more_than_there_is_to_say() {
    let host = Host::start().await;
    let channel = host.channel(host.pem.identity().client_config()).await;
    let mut grpc = tonic::client::Grpc::new(channel.unwrap());
    // Another message, and as good as an empty one for whoever knows none of its fields.
    let message = |size: usize| RegisterRemoteAgentRequest {
        display_name: "x".repeat(size),
        ..Default::default()
    };
    let mut ask = async |size| {
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<RegisterRemoteAgentRequest, HostnameReply>::default();
        let path = PathAndQuery::from_static("/datadog.api.v1.Agent/GetHostname");
        grpc.unary(request(message(size), &[]), path, codec).await
    };
    assert_eq!(ask(4_000).await.unwrap().into_inner().hostname, "host-1");
    assert_eq!(told(ask(5_000).await).0, Code::OutOfRange);
}

#[tokio::test]
async fn a_handshake_takes_a_while_at_most() {
    let limits = Limits::default().handshake_timeout(Duration::from_millis(20));
    let host = Host::start_with(|server| server.limits(limits)).await;
    let _silent = tokio::net::TcpStream::connect(host.address).await.unwrap();
    eventually("the handshake is given up", || {
        host.handle.stats().refused_handshakes == 1
    })
    .await;
    eventually("the connection is gone", || {
        host.handle.stats().handshakes == 0
    })
    .await;
}

#[tokio::test]
async fn one_connection_too_many_takes_the_place_of_another() {
    let limits = Limits::default().connections(1);
    let host = Host::start_with(|server| server.limits(limits)).await;
    let first = host.client().await;
    first.hostname().await.unwrap();
    let second = host.client().await;
    second.hostname().await.unwrap();
    let stats = host.handle.stats();
    assert_eq!((stats.connections, stats.refused_connections), (1, 1));
    drop((first, second));
    eventually("the place is free", || host.handle.stats().connections == 0).await;
    host.client().await.hostname().await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let pem = support::Pem::generate();
    let token = configstream_grpc::Token::parse(&"ab".repeat(32)).unwrap();
    let settings = configstream_engine::settings::Settings::new();
    let engine = configstream_engine::Engine::builder(settings)
        .build()
        .unwrap();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = configstream_grpc::Server::builder(engine, pem.identity(), token.clone()).build();
    let handle = server.serve_unix(listener);

    let address = format!("unix://{}", path.display()).parse().unwrap();
    let client = configstream_grpc::Connector::new(address, &pem.identity(), token)
        .connect()
        .await
        .unwrap();
    let session = client
        .register(&configstream_grpc::Registration::new("remote"))
        .await
        .unwrap();
    let mut events = client.stream("x", &session.id).await.unwrap();
    support::expect_snapshot(&mut events).await;
    within_deadline(handle.shutdown(Duration::from_secs(10))).await;
}

#[tokio::test]
async fn a_connection_of_the_hosts_own_serves_as_well_unless_it_says_nothing() {
    let limits = Limits::default().handshake_timeout(Duration::from_millis(50));
    let host = Host::start_with(|server| server.limits(limits)).await;
    let (_silent, near) = tokio::io::duplex(1_024);
    host.handle.serve_connection(near);
    assert_eq!(host.handle.stats().connections, 1);
    eventually("it is hung up on", || host.handle.stats().connections == 0).await;

    let (far, near) = tokio::io::duplex(1_024);
    host.handle.serve_connection(near);
    let mut far = Some(TokioIo::new(far));
    let dial = tower::service_fn(move |_| ready(far.take().ok_or("once")));
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(dial).await.unwrap();
    let mut agent = AgentClient::new(channel);
    let reply = agent.get_hostname(HostnameRequest {}).await.unwrap();
    assert_eq!(reply.into_inner().hostname, "host-1");
}

#[test]
fn everything_travels_between_threads() {
    fn travels<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    type Settings = configstream_engine::settings::Settings;
    travels::<configstream_grpc::ServerHandle<Settings>>();
    travels::<configstream_grpc::ServerObserver<Settings>>();
    travels::<configstream_grpc::ServerBounds>();
    travels::<configstream_grpc::Identity>();
    travels::<configstream_grpc::Token>();
    travels::<configstream_grpc::Connector>();
    travels::<configstream_grpc::Client>();
    moves::<configstream_grpc::Events>();
    moves::<configstream_grpc::Consumer>();
}

fn authorised<T>(host: &Host, message: T) -> tonic::Request<T> {
    let token = host.token.to_authorization();
    request(message, &[("authorization", token.to_str().unwrap())])
}
