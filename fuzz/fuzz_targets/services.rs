//! Every call of every service, as bytes of its request. Input: which call, how it is authorised,
//! and the message.
#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use configstream_fuzz::{Agent, framed};
use libfuzzer_sys::{Corpus, fuzz_target};

thread_local! {
    static AGENT: RefCell<Option<(Agent, u32)>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let [call, how, message @ ..] = data else {
        return Corpus::Reject;
    };
    AGENT.with_borrow_mut(|slot| {
        // What inputs have set stays: a new agent now and then keeps that bounded.
        if slot.as_ref().is_some_and(|(_, calls)| *calls >= CALLS) {
            *slot = None;
        }
        let (agent, calls) = slot.get_or_insert_with(|| (Agent::start(), 0));
        *calls += 1;
        let path = PATHS[usize::from(*call) % PATHS.len()];
        let (token, session) = agent.credentials();
        let token = if how & 1 == 0 {
            token.as_str()
        } else {
            "Bearer 0"
        };
        let session = if how & 2 == 0 {
            session.as_str()
        } else {
            "none"
        };
        let body = match how & 12 {
            0 => framed(message),
            4 => Bytes::copy_from_slice(message),
            8 => [framed(message), framed(message)].concat().into(),
            _ => Bytes::new(),
        };
        // A status, or a broken stream: but a call that is answered is answered whole.
        if let Some(answer) = agent.call(path, token, session, body)
            && !is_stream(path)
        {
            assert!(
                answer.headers.contains_key("grpc-status"),
                "{path}: {answer:?}"
            );
        }
    });
    Corpus::Keep
});

/// Streams last until one side ends them.
fn is_stream(path: &str) -> bool {
    path.ends_with("StreamConfigEvents") || path.ends_with("Watch")
}

const CALLS: u32 = 1_000;

const PATHS: &[&str] = &[
    "/datadog.api.v1.AgentSecure/RegisterRemoteAgent",
    "/datadog.api.v1.AgentSecure/RefreshRemoteAgent",
    "/datadog.api.v1.AgentSecure/StreamConfigEvents",
    "/datadog.api.v1.AgentSecure/TaggerFetchEntity",
    "/datadog.api.v1.Agent/GetHostname",
    "/datadog.remoteagent.v1.RemoteAgent/RegisterRemoteAgent",
    "/datadog.remoteagent.v1.RemoteAgent/RefreshRemoteAgent",
    "/datadog.remoteagent.v1.RemoteAgent/ReportRemoteAgentEvent",
    "/configstream.admin.v1.ConfigAdmin/Get",
    "/configstream.admin.v1.ConfigAdmin/List",
    "/configstream.admin.v1.ConfigAdmin/Set",
    "/configstream.admin.v1.ConfigAdmin/Unset",
    "/configstream.admin.v1.ConfigAdmin/Apply",
    "/configstream.admin.v1.ConfigAdmin/Explain",
    "/configstream.admin.v1.ConfigAdmin/Agents",
    "/configstream.admin.v1.ConfigAdmin/WaitForStreams",
    "/configstream.admin.v1.ConfigAdmin/Status",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/no.such.Service/Call",
];
