//! Has everyone got it? Waiting until every stream has been handed a sequence, and naming those that have not.

mod support;

use std::time::Duration;

use configstream_engine::{Epoch, Sequence};
use configstream_grpc::{Client, Registration, Sessions};
use configstream_proto::configstream::admin::v1::WaitForStreamsResponse;
use support::peer::{self, Peer};
use support::{FakeClock, Host, eventually, expect_snapshot, expect_update, told, within_deadline};
use tonic::{Code, Status};

/// Longer than any test may take: who waits so long has to be woken.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn nobody_is_behind_when_nobody_is_there() {
    let host = Host::start().await;
    let answer = ask(&host, host.set("a", 1), LONG).await.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (0, 0));
}

#[tokio::test]
async fn it_ends_when_the_last_stream_has_been_handed_the_sequence() {
    let host = Host::start().await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(host.stream().await.0);
    }
    for value in 0..20 {
        let sequence = host.set("a", value);
        let answer = ask(&host, sequence, LONG).await.unwrap();
        assert_eq!((answer.passed, answer.behind.len()), (5, 0));
        for agent in host.handle.agents() {
            assert_eq!(agent.streams[0].handed, Some(Sequence::new(sequence)));
        }
    }
}

#[tokio::test]
async fn who_has_not_got_it_in_time_is_named() {
    let host = Host::start().await;
    let (mut quick, _) = host.stream().await;
    let _reading = tokio::spawn(async move { while quick.next().await.is_ok() {} });
    let (_stalled, session) = host.stalled_stream().await;
    let sequence = host.set("a", 1);
    eventually("the quick one is not behind", || {
        let agents = host.handle.agents();
        let streams = agents.iter().flat_map(|agent| &agent.streams);
        streams
            .filter(|stream| stream.name == "test")
            .all(|stream| stream.handed == Some(Sequence::new(sequence)))
    })
    .await;
    for limit in [Duration::ZERO, Duration::from_millis(20)] {
        let answer = ask(&host, sequence, limit).await.unwrap();
        assert_eq!((answer.passed, answer.behind.len()), (1, 1));
        let agent = &answer.behind[0];
        assert_eq!(
            (agent.display_name.as_str(), &agent.session_id),
            ("stalled", &session.id)
        );
        assert_eq!(agent.streams.len(), 1);
        let stream = &agent.streams[0];
        assert!(stream.last_sequence_sent.unwrap() < sequence);
        assert!(stream.lag > 0 && stream.lagging);
    }
}

#[tokio::test]
async fn a_stream_that_reads_on_wakes_who_waits() {
    let host = Host::start().await;
    let (mut stalled, _) = host.stalled_stream().await;
    let sequence = host.set("a", 1);
    let (answer, ()) = tokio::join!(ask(&host, sequence, LONG), async {
        while within_deadline(stalled.next()).await.unwrap().sequence() < Sequence::new(sequence) {}
    });
    let answer = answer.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (1, 0));
    // It was repaired, and the books say so.
    let agents = host.client().await.agents().await.unwrap();
    let stream = &agents[0].streams[0];
    assert_eq!(stream.last_sequence_sent, Some(sequence));
    assert_eq!((stream.lag, stream.resyncs), (0, 1));
    assert!(stream.dropped > 0);
}

#[tokio::test]
async fn a_frame_that_waits_for_a_window_has_not_been_passed() {
    let host = Host::start().await;
    let sequence = host.set("a", 1);
    // Answers need a window, too, so another connection asks for the session.
    let registration = Registration::new("no window");
    let session = host.client().await.register(&registration).await.unwrap();
    let client = host.connector().window_bytes(0).connect().await.unwrap();
    let _events = client.stream("no window", &session.id).await.unwrap();
    eventually("the snapshot is on its way", || {
        let agents = host.handle.agents();
        let mut streams = agents.iter().flat_map(|agent| &agent.streams);
        streams.any(|stream| stream.figures.snapshots == 1)
    })
    .await;
    let answer = ask(&host, sequence, Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (0, 1));
}

#[tokio::test]
async fn a_frame_handed_over_in_part_has_not_been_passed() {
    let host = Host::start().await;
    let sequence = host.set("a", "x".repeat(1_000_000));
    let (mut events, _) = host.narrow_stream("slow").await;
    eventually("a part has gone", || {
        host.handle.agents()[0].streams[0]
            .figures
            .sequence
            .is_some()
    })
    .await;
    let answer = ask(&host, sequence, Duration::ZERO).await.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (0, 1));
    assert_eq!(answer.behind[0].streams[0].last_sequence_sent, None);

    let (answer, _) = tokio::join!(ask(&host, sequence, LONG), expect_snapshot(&mut events));
    assert_eq!(answer.unwrap().passed, 1);
}

#[tokio::test]
async fn an_update_of_which_a_part_waits_for_a_window_has_not_been_passed() {
    let host = Host::start().await;
    host.set("a", "x".repeat(100));
    let mut peer = Peer::stream_with_window(&host, 300).await;
    let sequence = host.set("a", "y".repeat(400));
    let answer = ask(&host, sequence, Duration::from_millis(20)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (0, 1));
    let handed = answer.behind[0].streams[0].last_sequence_sent;
    assert_eq!(handed, Some(sequence - 1));

    let (answer, ()) = tokio::join!(ask(&host, sequence, LONG), async {
        let mut more = Vec::new();
        peer::frame(
            &mut more,
            peer::WINDOW_UPDATE,
            0,
            1,
            &1_000_u32.to_be_bytes(),
        );
        assert!(peer.send(&more).await);
    });
    assert_eq!(answer.unwrap().passed, 1);
}

#[tokio::test]
async fn a_stream_that_leaves_is_not_waited_for() {
    let host = Host::start().await;
    let (stalled, _) = host.stalled_stream().await;
    let sequence = host.set("a", 1);
    let client = host.client().await;
    let (answer, ()) = tokio::join!(ask_over(&client, &host, sequence, LONG), async {
        arrived(&client).await;
        drop(stalled);
    });
    let answer = answer.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (0, 0));
}

#[tokio::test]
async fn a_stream_that_joins_meanwhile_is_waited_for() {
    let host = Host::start().await;
    let (mut first, _) = host.stream().await;
    let next = host.engine.head().sequence().next().get();
    let client = host.client().await;
    let (answer, second) = tokio::join!(ask_over(&client, &host, next, LONG), async {
        arrived(&client).await;
        let (second, _) = host.stream().await;
        assert_eq!(host.set("a", 1), next);
        expect_update(&mut first).await;
        second
    });
    let answer = answer.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (2, 0));
    drop(second);
}

#[tokio::test]
async fn a_session_that_expires_meanwhile_is_not_waited_for() {
    let clock = FakeClock::new();
    let sessions = Sessions::default()
        .clock(clock.reader())
        .sweep_interval(Duration::from_millis(5));
    let limits = configstream_grpc::Limits::default().stall_timeout(LONG);
    let host = Host::start_with(|server| server.sessions(sessions).limits(limits)).await;
    let (_stalled, _) = host.stalled_stream().await;
    let sequence = host.set("a", 1);
    let client = host.client().await;
    let (answer, ()) = tokio::join!(ask_over(&client, &host, sequence, LONG), async {
        arrived(&client).await;
        clock.advance(Duration::from_secs(60));
    });
    assert_eq!(answer.unwrap().behind.len(), 0);
}

#[tokio::test]
async fn a_server_that_shuts_down_says_so_to_who_waits() {
    let host = Host::start().await;
    let (_stalled, _) = host.stalled_stream().await;
    let client = host.client().await;
    let sequence = host.set("a", 1);
    let (epoch, sequence) = (host.engine.head().epoch(), Sequence::new(sequence));
    let waiting = client.wait_for_streams(epoch, sequence, LONG);
    let (answer, ()) = tokio::join!(within_deadline(waiting), async {
        arrived(&client).await;
        host.handle.shutdown(Duration::from_secs(1)).await;
    });
    assert_eq!(
        told(answer),
        (Code::Unavailable, "the server is shutting down".into())
    );
}

#[tokio::test]
async fn a_stream_of_a_later_epoch_has_passed_all_of_an_earlier_one() {
    let host = Host::start().await;
    let old = host.engine.head().epoch();
    let state = host.engine.head().state().clone();
    let start = Sequence::new(0);
    host.engine.adopt(state, old.next(), start).unwrap();
    let (_events, _) = host.stream().await;
    let client = host.client().await;
    let far = Sequence::new(1_000);
    let answer = client.wait_for_streams(old, far, LONG).await.unwrap();
    assert_eq!((answer.passed, answer.behind.len()), (1, 0));
    let later = client.wait_for_streams(old.next(), far, Duration::ZERO);
    assert_eq!(later.await.unwrap().behind.len(), 1);
}

#[tokio::test]
async fn what_is_no_span_of_time_is_refused() {
    let host = Host::start().await;
    let channel = host
        .channel(host.pem.identity().client_config())
        .await
        .unwrap();
    use configstream_proto::configstream::admin::v1 as admin;
    let mut client = admin::config_admin_client::ConfigAdminClient::new(channel);
    for timeout_seconds in [-1.0, f64::NAN, f64::INFINITY] {
        let message = admin::WaitForStreamsRequest {
            timeout_seconds,
            ..Default::default()
        };
        let message = support::request(message, &[("authorization", support::BEARER)]);
        let (code, text) = told(client.wait_for_streams(message).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(text.contains("timeout_seconds"), "{text}");
    }
}

/// Waits for `sequence` in the epoch of the head.
async fn ask(
    host: &Host,
    sequence: u64,
    limit: Duration,
) -> Result<WaitForStreamsResponse, Status> {
    ask_over(&host.client().await, host, sequence, limit).await
}

async fn ask_over(
    client: &Client,
    host: &Host,
    sequence: u64,
    limit: Duration,
) -> Result<WaitForStreamsResponse, Status> {
    let epoch: Epoch = host.engine.head().epoch();
    within_deadline(client.wait_for_streams(epoch, Sequence::new(sequence), limit)).await
}

/// Waits until a call that was made over `client` before has reached its handler: calls of one connection arrive in
/// order.
async fn arrived(client: &Client) {
    client.hostname().await.unwrap();
}
