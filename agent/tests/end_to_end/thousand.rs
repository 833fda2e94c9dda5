//! A thousand streams at once, of which some are stalled and some half-open: how they see a stop, and a restart.
//!
//! Both are to take 5 s at most. Beside other tests, unoptimised, on a machine that does something else, the clock says
//! little, so what is looked at then is what does not depend on it: that the agent did not cut itself short, and that nobody
//! meant to wait for as long as that. By the clock, with a release build and the machine to itself:
//!
//! ```sh
//! THOUSAND_BY_THE_CLOCK=1 cargo test --release -p configstream-agent --test end_to_end -- thousand --nocapture
//! ```
//!
//! That fails when either takes longer, and says how long both took.

use std::collections::BTreeMap;
use std::env;
use std::future::poll_fn;
use std::time::{Duration, Instant};

use configstream_agent::run::SHUTDOWN_DEADLINE;
use configstream_grpc::consumer::{
    Consumer, ConsumerBuilder, ConsumerState, Disconnection, States,
};
use configstream_grpc::{Client, Connector, Events, Identity, StreamError, Token};
use futures_util::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::peer::{Credentials, open, registration, set};
use crate::proxy::Proxy;
use crate::support::{Agent, PATIENCE};

/// Consumers with a connection each.
const FOLLOWING: usize = 900;
/// Consumers whose network goes away without a word.
const HALF_OPEN: usize = 20;
/// Connections that read nothing but what the window takes, and their streams.
const STALLED: (usize, usize) = (10, 8);
const ALL: usize = FOLLOWING + HALF_OPEN + STALLED.0 * STALLED.1;

/// In which the agent has to end, and in which all have to be current after a restart.
const SOON: Duration = Duration::from_secs(5);
/// What a pause is at least, and what chance adds to the first one at most.
const SHORTEST_PAUSE: Duration = ConsumerBuilder::DEFAULT_MIN_DELAY;

#[test]
fn a_stop_reaches_a_thousand_streams_and_a_restart_gets_them_back() {
    allow_many_sockets();
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut agent = Agent::start(root.path(), &[]);
    let credentials = Credentials::of(&agent);
    let address = credentials.host_and_port().to_owned();

    let (proxy, stalled, following, last) = runtime.block_on(async {
        let proxy = Proxy::before(&address).await;
        let over_proxy = Credentials {
            address: proxy.address.clone(),
            ..credentials.clone()
        };
        let (often, patient) = (Duration::from_millis(500), Duration::from_secs(5));
        let half_open = connector(&over_proxy).keepalive(often, patient);
        let followers = [
            vec![connector(&credentials); FOLLOWING],
            vec![half_open; HALF_OPEN],
        ];
        let followers = followers.concat().into_iter().map(Follower::start);
        let mut followers: Vec<Follower> = followers.collect();
        let stalled = within(stalled(&credentials)).await;

        let client = credentials.connect().await.unwrap();
        let mut last = 0;
        // More than there is room for on the way to those that do not read.
        for change in 0..STALLING_CHANGES {
            let text = format!("{change} {}", "x".repeat(STALLING_BYTES));
            last = set(&client, "mine.text", text).await;
        }
        within(join_all(
            followers.iter_mut().map(|follower| follower.until(last)),
        ))
        .await;
        // A clean restart goes on with the next sequence.
        let following = followers.into_iter().map(|mut follower| {
            tokio::spawn(async move { (follower.until(last + 1).await, follower) })
        });
        let following: Vec<JoinHandle<_>> = following.collect();
        (proxy, stalled, following, last)
    });
    agent.until(
        "all stream, and those that do not read are behind",
        |agent| {
            let status = agent.status();
            let streams = status["server"]["streams"].as_u64();
            let agents = status["agents"].as_array().unwrap();
            let behind = agents.iter().filter(|agent| agent["lag"] != 0).count();
            (streams, behind) == (Some(ALL as u64), STALLED.0 * STALLED.1)
        },
    );

    // A clean end is one within the deadline: beyond it the agent cuts itself short, and says so by its exit code.
    const { assert!(SHUTDOWN_DEADLINE.as_millis() <= SOON.as_millis()) };
    proxy.fall_silent();
    let asked = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
    took(&format!("{ALL} streams: the agent ended"), asked);

    // There was no room to tell those that do not read; they find their connections closed.
    let ends = runtime.block_on(within(join_all(stalled.into_iter().map(end_of))));
    let (stalled, ends): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    assert!(ends.iter().all(is_closed_connection), "{ends:?}");

    let begun = Instant::now();
    let agent = Agent::start_at(root.path(), &address, &[]);
    let (losses, mut followers): (Vec<_>, Vec<_>) = runtime
        .block_on(within(join_all(following)))
        .into_iter()
        .map(|followed| followed.expect("nobody panics"))
        .unzip();
    took(&format!("{} consumers: all current", losses.len()), begun);

    let (told, silent) = losses.split_at(FOLLOWING);
    for losses in told {
        let cause = &losses[0].0;
        // Whoever was just refreshing its session may hear of the closed connection by that.
        let is_told = is_told_of_shutdown(cause) || matches!(cause, Disconnection::Refresh(_));
        assert!(is_told, "{losses:?}");
    }
    for losses in silent {
        assert!(!is_told_of_shutdown(&losses[0].0), "{losses:?}");
    }
    // Nobody pauses for longer than that, so nobody can be late. That this holds however long the agent is away, the tests
    // of the pauses show.
    let longest = told.iter().flatten().map(|(_, pause)| *pause).max();
    assert!(longest < Some(SOON), "{longest:?}");
    assert_no_storm(told.iter().map(|losses| losses[0].1));

    let starts = runtime.block_on(within(join_all(stalled.iter().map(start_of))));
    assert!(starts.iter().all(|start| *start == last + 1), "{starts:?}");
    agent.until("all have what there is", |agent| {
        let server = &agent.status()["server"];
        server["caught_up"] == true && server["streams"] == losses.len()
    });
    // And they follow again.
    runtime.block_on(async {
        let client = Credentials::of(&agent).connect().await.unwrap();
        let next = set(&client, "mine.text", "and on").await;
        assert_eq!(next, last + 2);
        within(join_all(
            followers.iter_mut().map(|follower| follower.until(next)),
        ))
        .await;
    });
}

/// A consumer, and what it says of its state.
struct Follower {
    consumer: Consumer,
    states: States,
}

/// Why a stream was lost, and how long the consumer waited before it tried again.
type Loss = (Disconnection, Duration);

impl Follower {
    fn start(connector: Connector) -> Self {
        // As it comes: what is promised has to hold without a word about pauses.
        let consumer = Consumer::builder(connector, registration()).start();
        let states = consumer.states();
        Self { consumer, states }
    }

    /// Follows until it has got `sequence`, and gives what it lost on the way.
    async fn until(&mut self, sequence: u64) -> Vec<Loss> {
        let ready = self.consumer.wait_ready(4 * PATIENCE).await;
        ready.expect("the agent is there");
        let mut events = self.consumer.subscribe().expect("it is ready");
        let mut losses = Vec::new();
        loop {
            tokio::select! {
                // First: a state is said before the events that follow from it.
                biased;
                state = self.states.next() => match state.expect("it has not stopped") {
                    ConsumerState::Stale { cause, retry_in, .. }
                    | ConsumerState::Connecting { cause: Some(cause), retry_in } => {
                        losses.push((cause, retry_in));
                    }
                    _ => {}
                },
                event = poll_fn(|cx| events.poll_next(cx)) => {
                    if event.expect("it has not stopped").sequence().get() >= sequence {
                        return losses;
                    }
                }
            }
        }
    }
}

fn connector(credentials: &Credentials) -> Connector {
    let identity = Identity::from_pem(&credentials.pem).unwrap();
    let token = Token::parse(&credentials.token).unwrap();
    Connector::new(credentials.address.clone(), &identity, token)
}

/// Streams that nobody reads, with windows that are soon full, and what they were opened with.
async fn stalled(credentials: &Credentials) -> Vec<(Client, Events)> {
    let (connections, streams) = STALLED;
    let mut all = Vec::new();
    for _ in 0..connections {
        let connector = connector(credentials).window_bytes(65_535);
        let client = connector.connect().await.unwrap();
        // Sessions first: once the streams have filled the window, there is no room for another answer.
        let who = registration();
        let registering = (0..streams).map(|_| client.register(&who));
        for session in join_all(registering).await {
            let session = session.unwrap();
            let events = client.stream("stalled", &session.id).await.unwrap();
            all.push((client.clone(), events));
        }
    }
    all
}

/// How a stream ends, whatever comes before.
async fn end_of((client, mut events): (Client, Events)) -> (Client, StreamError) {
    loop {
        if let Err(end) = events.next().await {
            return (client, end);
        }
    }
}

/// The sequence at which a new stream starts.
async fn start_of(client: &Client) -> u64 {
    // A call may have to find out first that the connection is no more.
    while client.hostname().await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (_, mut events) = open(client).await;
    events.next().await.unwrap().sequence().get()
}

fn is_told_of_shutdown(cause: &Disconnection) -> bool {
    let Disconnection::Stream(StreamError::Status(status)) = cause else {
        return false;
    };
    (status.code(), status.message()) == (Code::Unavailable, "the server is shutting down")
}

fn is_closed_connection(end: &StreamError) -> bool {
    matches!(end, StreamError::Status(status) if status.code() == Code::Unknown)
}

/// Pauses differ enough that who lost the same server does not come back as one: no tenth of their range holds more than
/// a quarter of them.
fn assert_no_storm(pauses: impl Iterator<Item = Duration>) {
    let mut tenths = BTreeMap::<u128, usize>::new();
    let mut count = 0;
    for pause in pauses {
        assert!(pause >= SHORTEST_PAUSE, "{pause:?}");
        let chance = (pause - SHORTEST_PAUSE).as_nanos();
        let tenth = chance * 10 / SHORTEST_PAUSE.as_nanos();
        *tenths.entry(tenth).or_default() += 1;
        count += 1;
    }
    assert!(tenths.values().all(|held| *held < count / 4), "{tenths:?}");
}

/// Says how long something took, and demands that it was not too long if the clock is to be asked.
fn took(what: &str, since: Instant) {
    let time = since.elapsed();
    eprintln!("{what} after {time:?}");
    if env::var_os("THOUSAND_BY_THE_CLOCK").is_some() {
        if cfg!(debug_assertions) {
            panic!("by the clock only a release build counts: use --release");
        }
        assert!(
            time <= SOON,
            "{what} after {time:?}, where {SOON:?} are allowed"
        );
    }
}

/// A thousand of anything take their time on a machine that is busy.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(4 * PATIENCE, future)
        .await
        .expect("in time")
}

/// This process and those it starts need a descriptor per connection.
fn allow_many_sockets() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = 4_096.min(hard);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
}

const STALLING_CHANGES: usize = 10;
const STALLING_BYTES: usize = 20_000;
