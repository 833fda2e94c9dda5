//! Peers with the right credentials that take all they can, over many connections, while an agent
//! of ours works.

mod support;

use std::sync::Arc;
use std::time::Duration;

use configstream_grpc::consumer::Consumer;
use configstream_grpc::{Limits, Registration, Sessions};
use configstream_proto::datadog::api::v1::agent_secure_client::AgentSecureClient;
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use configstream_proto::datadog::remoteagent::v1::RegisterRemoteAgentRequest;
use futures_util::future::join_all;
use support::{BEARER, Host, eventually, request};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const CONNECTIONS: usize = 12;
const SESSIONS: usize = 300;
const LONG: Duration = Duration::from_secs(60);

/// What a hostile connection does after it has registered.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// Opens a stream, and reads the snapshot.
    Stream,
    /// Opens a stream, and never reads.
    Ignore,
    /// Connects anew after some registrations.
    Reconnect,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_in_and_stays_while_others_register_in_loops() {
    floods(&[Then::Nothing]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_in_and_stays_while_others_register_and_stream_in_loops() {
    floods(&[Then::Stream]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_in_and_stays_while_others_do_all_of_that_and_come_and_go() {
    floods(&[Then::Nothing, Then::Stream, Then::Ignore, Then::Reconnect]).await;
}

async fn floods(kinds: &[Then]) {
    let sessions = Sessions::default().limit(SESSIONS);
    let limits = Limits::default()
        .streams(SESSIONS)
        .connections(CONNECTIONS + 8);
    let host = Host::start_with(|server| server.sessions(sessions).limits(limits)).await;
    let host = Arc::new(host);
    host.set("large", "x".repeat(100_000));
    let before = agent(&host, "before").await;
    let mut hostile = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (tls, then) = (
            host.pem.identity().client_config(),
            kinds[number % kinds.len()],
        );
        let host = host.clone();
        hostile.spawn(async move {
            let mut channel = host.channel(tls.clone()).await;
            let mut held = Vec::new();
            for round in 0.. {
                if matches!(then, Then::Reconnect) {
                    channel = host.channel(tls.clone()).await;
                }
                if let Ok(channel) = &channel {
                    let calls = (0..8).map(|call| harm(channel, number, round * 8 + call, then));
                    held.extend(join_all(calls).await.into_iter().flatten());
                } else {
                    channel = host.channel(tls.clone()).await;
                }
                // Those that are given up make room for more.
                held.truncate(200);
            }
        });
    }
    eventually("they have all there is", || {
        host.handle.stats().sessions == SESSIONS
    })
    .await;
    let during = agent(&host, "during").await;
    for value in 0..20 {
        let last = host.set("a", value);
        eventually("both get the change", || {
            [&before, &during].iter().all(|consumer| {
                consumer
                    .head()
                    .is_some_and(|head| head.sequence().get() == last)
            })
        })
        .await;
        assert!(host.handle.stats().sessions <= SESSIONS);
    }
    // Each of them on the stream that it began with.
    let agents = host.handle.agents();
    for name in ["before", "during"] {
        let mine =
            |agent: &&configstream_grpc::AgentReport| agent.registration.display_name == name;
        let mine: Vec<_> = agents.iter().filter(mine).collect();
        assert_eq!(mine.len(), 1, "{name} registered anew");
        assert_eq!(mine[0].streams.len(), 1);
        assert_eq!(
            mine[0].streams[0].figures.snapshots, 1,
            "{name} streams anew"
        );
    }
    while let Some(ended) = {
        hostile.abort_all();
        hostile.join_next().await
    } {
        assert!(
            ended.unwrap_err().is_cancelled(),
            "the flood ended by itself"
        );
    }
}

async fn agent(host: &Host, name: &str) -> Consumer {
    let consumer = Consumer::builder(host.connector(), Registration::new(name)).start();
    consumer.wait_ready(LONG).await.unwrap();
    consumer
}

/// Registers under a name of its own, and then does the rest.
async fn harm(
    channel: &Channel,
    number: usize,
    call: usize,
    then: Then,
) -> Option<tonic::Streaming<configstream_proto::datadog::model::v1::ConfigEvent>> {
    let mut client = AgentSecureClient::new(channel.clone());
    let message = RegisterRemoteAgentRequest {
        display_name: format!("hostile-{number}-{call}"),
        ..Default::default()
    };
    let registered = client.register_remote_agent(request(message, &[("authorization", BEARER)]));
    let session = registered.await.ok()?.into_inner().session_id;
    if matches!(then, Then::Nothing | Then::Reconnect) {
        return None;
    }
    let metadata = [("authorization", BEARER), ("session_id", &session)];
    let message = request(ConfigStreamRequest::default(), &metadata);
    let mut stream = client
        .stream_config_events(message)
        .await
        .ok()?
        .into_inner();
    if matches!(then, Then::Stream) {
        stream.message().await.ok()?;
    }
    Some(stream)
}
