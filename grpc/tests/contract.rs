//! PROTOCOL.md, 1 and 2: services and messages. What they are is read from the descriptors that the code is generated from, so
//! no method can be forgotten here.

mod support;

use configstream_proto::FILE_DESCRIPTOR_SET;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use support::{BEARER, Host, request, told, within_deadline};
use tonic::{Code, Status};

#[test]
fn each_method_has_the_documented_request_and_reply() {
    let methods: Vec<_> = methods(FILE_DESCRIPTOR_SET)
        .into_iter()
        .filter(|method| method.path.starts_with("/datadog."))
        .map(|method| format!("{} {} -> {}", method.path, method.input, method.output))
        .collect();
    assert_eq!(
        methods,
        [
            "/datadog.api.v1.Agent/GetHostname datadog.model.v1.HostnameRequest -> datadog.model.v1.HostnameReply",
            "/datadog.api.v1.AgentSecure/RefreshRemoteAgent datadog.remoteagent.v1.RefreshRemoteAgentRequest -> datadog.remoteagent.v1.RefreshRemoteAgentResponse",
            "/datadog.api.v1.AgentSecure/RegisterRemoteAgent datadog.remoteagent.v1.RegisterRemoteAgentRequest -> datadog.remoteagent.v1.RegisterRemoteAgentResponse",
            "/datadog.api.v1.AgentSecure/StreamConfigEvents datadog.model.v1.ConfigStreamRequest -> stream datadog.model.v1.ConfigEvent",
            "/datadog.api.v1.AgentSecure/TaggerFetchEntity datadog.model.v1.FetchEntityRequest -> datadog.model.v1.FetchEntityResponse",
            "/datadog.remoteagent.v1.RemoteAgent/RefreshRemoteAgent datadog.remoteagent.v1.RefreshRemoteAgentRequest -> datadog.remoteagent.v1.RefreshRemoteAgentResponse",
            "/datadog.remoteagent.v1.RemoteAgent/RegisterRemoteAgent datadog.remoteagent.v1.RegisterRemoteAgentRequest -> datadog.remoteagent.v1.RegisterRemoteAgentResponse",
            "/datadog.remoteagent.v1.RemoteAgent/ReportRemoteAgentEvent datadog.remoteagent.v1.ReportRemoteAgentEventRequest -> datadog.remoteagent.v1.ReportRemoteAgentEventResponse",
        ]
    );
}

#[tokio::test]
async fn each_path_is_served() {
    let host = Host::start().await;
    for path in paths() {
        if let Err(status) = call(&host, &path, &[("authorization", BEARER)]).await {
            assert_ne!(status.code(), Code::Unimplemented, "{path}: {status}");
            assert_ne!(status.code(), Code::Internal, "{path}: {status}");
        }
    }
    // What the demand above amounts to.
    for nobodys in [
        "/datadog.api.v1.AgentSecure/Nothing",
        "/nobodys.Service/Get",
    ] {
        let answer = call(&host, nobodys, &[("authorization", BEARER)]).await;
        assert_eq!(told(answer).0, Code::Unimplemented, "{nobodys}");
    }
}

#[tokio::test]
async fn each_path_but_the_host_name_needs_the_token() {
    let host = Host::start().await;
    let text = "authorization required in metadata: Bearer <token>";
    let mut open = Vec::new();
    for path in paths() {
        match call(&host, &path, &[]).await {
            Ok(()) => open.push(path),
            refused => {
                let wanted = (Code::Unauthenticated, text.to_owned());
                assert_eq!(told(refused), wanted, "{path}");
            }
        }
    }
    assert_eq!(open, ["/datadog.api.v1.Agent/GetHostname"]);
}

#[test]
fn each_message_has_the_documented_fields() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let in_package = |package| {
        let files = files.file.iter();
        files.filter(move |file| file.package() == package)
    };
    for (name, fields) in [
        ("datadog.model.v1.ConfigStreamRequest", "string name=1"),
        (
            "datadog.model.v1.ConfigEvent",
            "oneof event ConfigSnapshot snapshot=1; oneof event ConfigUpdate update=2",
        ),
        (
            "datadog.model.v1.ConfigSnapshot",
            "string origin=1; int32 sequence_id=2; repeated ConfigSetting settings=3; uint64 epoch=100",
        ),
        (
            "datadog.model.v1.ConfigUpdate",
            "string origin=1; int32 sequence_id=2; ConfigSetting setting=3; uint32 batch_remaining=100",
        ),
        (
            "datadog.model.v1.ConfigSetting",
            "string source=1; string key=2; google.protobuf.Value value=3; optional string unset_source=4",
        ),
        (
            "datadog.remoteagent.v1.RegisterRemoteAgentRequest",
            "string pid=1; string flavor=2; string display_name=3; string api_endpoint_uri=4; repeated string services=5",
        ),
        (
            "datadog.remoteagent.v1.RegisterRemoteAgentResponse",
            "string session_id=1; uint32 recommended_refresh_interval_secs=2",
        ),
        (
            "datadog.remoteagent.v1.RefreshRemoteAgentRequest",
            "string session_id=1",
        ),
        ("datadog.remoteagent.v1.RefreshRemoteAgentResponse", ""),
        (
            "datadog.remoteagent.v1.ReportRemoteAgentEventRequest",
            "string session_id=1; repeated Event events=2",
        ),
        ("datadog.remoteagent.v1.ReportRemoteAgentEventResponse", ""),
        (
            "datadog.remoteagent.v1.Event",
            "string message=1; oneof details InvalidApiKeyEvent invalid_api_key=2",
        ),
        ("datadog.remoteagent.v1.InvalidApiKeyEvent", ""),
        ("datadog.model.v1.EntityId", "string prefix=1; string uid=2"),
        (
            "datadog.model.v1.FetchEntityRequest",
            "EntityId id=1; TagCardinality cardinality=2",
        ),
        (
            "datadog.model.v1.FetchEntityResponse",
            "EntityId id=1; TagCardinality cardinality=2; repeated string tags=3",
        ),
        ("datadog.model.v1.HostnameRequest", ""),
        ("datadog.model.v1.HostnameReply", "string hostname=1"),
    ] {
        let (package, short) = name.rsplit_once('.').unwrap();
        let message = in_package(package)
            .flat_map(|file| &file.message_type)
            .find(|message| message.name() == short)
            .unwrap_or_else(|| panic!("no message {name}"));
        assert_eq!(spelled(package, message), fields, "{name}");
    }
    let cardinality = in_package("datadog.model.v1")
        .flat_map(|file| &file.enum_type)
        .find(|wanted| wanted.name() == "TagCardinality")
        .unwrap();
    let values: Vec<_> = cardinality
        .value
        .iter()
        .map(|value| (value.name(), value.number()))
        .collect();
    assert_eq!(values, [("LOW", 0), ("ORCHESTRATOR", 1), ("HIGH", 2)]);
}

/// The fields of a message as the protocol's table writes them: a type of another package by its whole name.
fn spelled(package: &str, message: &DescriptorProto) -> String {
    let own = format!(".{package}.");
    let fields = message.field.iter().map(|field| {
        let kind = match field.r#type() {
            Type::String => "string".to_owned(),
            Type::Int32 => "int32".to_owned(),
            Type::Uint32 => "uint32".to_owned(),
            Type::Uint64 => "uint64".to_owned(),
            Type::Message | Type::Enum => {
                let name = field.type_name();
                let short = name.strip_prefix(&own).filter(|rest| !rest.contains('.'));
                short.unwrap_or(&name[1..]).to_owned()
            }
            other => format!("{other:?}"),
        };
        let rule = if field.label() == Label::Repeated {
            "repeated ".to_owned()
        } else if field.proto3_optional() {
            "optional ".to_owned()
        } else if let Some(index) = field.oneof_index {
            let index = usize::try_from(index).unwrap();
            format!("oneof {} ", message.oneof_decl[index].name())
        } else {
            String::new()
        };
        format!("{rule}{kind} {}={}", field.name(), field.number())
    });
    fields.collect::<Vec<_>>().join("; ")
}

/// One method, its types as the protocol's table writes them.
struct Method {
    path: String,
    input: String,
    output: String,
}

/// Every method in a descriptor set, by path.
fn methods(descriptors: &[u8]) -> Vec<Method> {
    let files = FileDescriptorSet::decode(descriptors).unwrap().file;
    let mut methods = Vec::new();
    for file in &files {
        for service in &file.service {
            let service_name = format!("/{}.{}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| Method {
                path: format!("{service_name}/{}", method.name()),
                input: typed(method.client_streaming(), method.input_type()),
                output: typed(method.server_streaming(), method.output_type()),
            }));
        }
    }
    methods.sort_by(|one, other| one.path.cmp(&other.path));
    methods
}

fn typed(streams: bool, name: &str) -> String {
    let stream = if streams { "stream " } else { "" };
    format!("{stream}{}", &name[1..])
}

/// The path of every method that a server is to serve.
fn paths() -> Vec<String> {
    let served = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let methods = served.into_iter().flat_map(methods);
    let paths: Vec<_> = methods.map(|method| method.path).collect();
    assert!(paths.len() >= 21, "{paths:?}");
    paths
}

/// An empty message to `path`: what comes back first.
async fn call(host: &Host, path: &str, metadata: &[(&'static str, &str)]) -> Result<(), Status> {
    let tls = host.pem.identity().client_config();
    let mut client = tonic::client::Grpc::new(host.channel(tls).await.unwrap());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = PathAndQuery::try_from(path).unwrap();
    within_deadline(async {
        // A reply is a stream of one, and some never end.
        let replying = client.server_streaming(request((), metadata), path, codec);
        replying.await?.into_inner().message().await?;
        Ok(())
    })
    .await
}
