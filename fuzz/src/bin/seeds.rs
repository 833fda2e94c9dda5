//! Writes the seeds that are messages: `cargo run --bin seeds` in this folder. Those that are text
//! are written by hand.

use std::fs;
use std::io;
use std::path::Path;

use configstream_fuzz::framed;
use configstream_proto::configstream::admin::v1 as admin;
use configstream_proto::datadog::model::v1 as model;
use configstream_proto::datadog::remoteagent::v1 as remote;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, call, message) in requests() {
        let input = [&[call, 0], message.as_slice()].concat();
        write(&seeds.join("services").join(name), &input)?;
    }
    let stream = [
        snapshot(1, 5),
        update(6, 1),
        update(7, 0),
        update(8, 0),
        snapshot(1, 20),
    ];
    let lengths = stream
        .iter()
        .map(|event| u16::try_from(event.len()).expect("short"));
    let stream: Vec<Vec<u8>> = lengths
        .zip(&stream)
        .map(|(length, event)| [&length.to_le_bytes(), event.as_slice()].concat())
        .collect();
    write(&seeds.join("events").join("stream"), &stream.concat())?;
    write(
        &seeds.join("run_directory").join("saved"),
        &[&[6], snapshot(1, 5).as_slice()].concat(),
    )?;
    write(
        &seeds.join("connection").join("get"),
        &[&[1], get().as_slice()].concat(),
    )
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a folder"))?;
    fs::write(path, bytes)
}

/// A value of every kind.
fn value() -> Value {
    let of = |kind| Value { kind: Some(kind) };
    let scalars = [
        Kind::BoolValue(true),
        Kind::NumberValue(3.0),
        Kind::NumberValue(0.5),
        Kind::StringValue("text".to_owned()),
    ];
    let list = of(Kind::ListValue(ListValue {
        values: scalars.into_iter().map(of).collect(),
    }));
    of(Kind::StructValue(Struct {
        fields: [("a".to_owned(), list)].into(),
    }))
}

fn setting(key: &str) -> model::ConfigSetting {
    model::ConfigSetting {
        source: "file".to_owned(),
        key: key.to_owned(),
        value: Some(value()),
        unset_source: None,
    }
}

fn snapshot(epoch: u64, sequence: i32) -> Vec<u8> {
    let snapshot = model::ConfigSnapshot {
        origin: "agent.yaml".to_owned(),
        sequence_id: sequence,
        settings: vec![setting("a.b"), setting("c")],
        epoch,
    };
    event(model::config_event::Event::Snapshot(snapshot))
}

fn update(sequence: i32, batch_remaining: u32) -> Vec<u8> {
    let update = model::ConfigUpdate {
        origin: "agent.yaml".to_owned(),
        sequence_id: sequence,
        setting: Some(setting("a.b")),
        batch_remaining,
    };
    event(model::config_event::Event::Update(update))
}

fn event(event: model::config_event::Event) -> Vec<u8> {
    model::ConfigEvent { event: Some(event) }.encode_to_vec()
}

/// A good request of each call, with its number in the target's list.
fn requests() -> Vec<(&'static str, u8, Vec<u8>)> {
    let key = || "log_level".to_owned();
    let conditions = || {
        Some(admin::Conditions {
            epoch: 0,
            if_sequence: Some(1 << 40),
            keys: vec![admin::KeyCondition {
                key: key(),
                if_sequence: 1 << 40,
            }],
        })
    };
    let register = remote::RegisterRemoteAgentRequest {
        pid: "1".to_owned(),
        flavor: "f".to_owned(),
        display_name: "name".to_owned(),
        api_endpoint_uri: "https://localhost:1".to_owned(),
        services: vec!["s".to_owned()],
    };
    let event = remote::Event {
        message: "m".to_owned(),
        details: None,
    };
    let edits = vec![
        admin::Edit {
            key: key(),
            source: "agent-runtime".to_owned(),
            edit: Some(admin::edit::Edit::Set(value())),
        },
        admin::Edit {
            key: key(),
            source: String::new(),
            edit: Some(admin::edit::Edit::Unset(true)),
        },
    ];
    vec![
        ("register", 0, register.encode_to_vec()),
        (
            "refresh",
            1,
            remote::RefreshRemoteAgentRequest {
                session_id: "x".to_owned(),
            }
            .encode_to_vec(),
        ),
        (
            "stream",
            2,
            model::ConfigStreamRequest {
                name: "n".to_owned(),
            }
            .encode_to_vec(),
        ),
        (
            "report",
            7,
            remote::ReportRemoteAgentEventRequest {
                session_id: "x".to_owned(),
                events: vec![event],
            }
            .encode_to_vec(),
        ),
        ("get", 8, admin::GetRequest { key: key() }.encode_to_vec()),
        (
            "list",
            9,
            admin::ListRequest {
                prefix: "apm_config".to_owned(),
            }
            .encode_to_vec(),
        ),
        (
            "set",
            10,
            admin::SetRequest {
                key: key(),
                value: Some(value()),
                source: String::new(),
                requested_by: "me".to_owned(),
                conditions: conditions(),
                persist: true,
            }
            .encode_to_vec(),
        ),
        (
            "unset",
            11,
            admin::UnsetRequest {
                key: key(),
                source: String::new(),
                requested_by: "me".to_owned(),
                conditions: conditions(),
                persist: false,
            }
            .encode_to_vec(),
        ),
        (
            "apply",
            12,
            admin::ApplyRequest {
                edits,
                conditions: conditions(),
                requested_by: "me".to_owned(),
                persist: false,
                dry_run: true,
            }
            .encode_to_vec(),
        ),
        (
            "explain",
            13,
            admin::ExplainRequest { key: key() }.encode_to_vec(),
        ),
    ]
}

/// SETTINGS is in the target's preface; HEADERS of a call without a token, and its message.
fn get() -> Vec<u8> {
    // Indexed and literal fields of HPACK (RFC 7541): POST, http, a path, and the content type.
    let path = b"/datadog.api.v1.Agent/GetHostname";
    let kind = b"application/grpc";
    let length = |text: &[u8]| u8::try_from(text.len()).expect("short");
    let mut block = vec![0x83, 0x86, 0x04, length(path)];
    block.extend(path);
    block.extend([0x0f, 0x10, length(kind)]);
    block.extend(kind);
    let frame = |kind, flags, payload: &[u8]| {
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&size[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    };
    [frame(1, 4, &block), frame(0, 1, &framed(b""))].concat()
}
