//! Core → relay → consumer: downstream everything holds that holds upstream.

#[path = "../examples/relay.rs"]
mod example;
mod support;

use std::fs;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use configstream_engine::settings::{Change, Key, Resolved, Settings, Source};
use configstream_engine::{Engine, Epoch, Event, Sequence, Subscription};
use configstream_grpc::consumer::{Access, Consumer, ConsumerState};
use configstream_grpc::{Address, ConfigEvent, Connector, Registration, Server, Token};
use example::Relay;
use support::{Host, Pem, TOKEN, eventually, expect_snapshot, expect_update, within_deadline};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;

const LONG: Duration = Duration::from_secs(20);

/// A core, and a relay behind it that finds its credentials in a directory.
struct Tree {
    core: Host,
    relay: Relay,
    address: SocketAddr,
    run_dir: TempDir,
}

impl Tree {
    async fn start() -> Self {
        let core = Host::start().await;
        core.set("a", 0);
        core.set("b", 0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let run_dir = tempfile::tempdir().unwrap();
        write_credentials(run_dir.path(), &core.pem, TOKEN);
        let relay = relay(core.address, listener, run_dir.path()).await;
        Self {
            core,
            relay,
            address,
            run_dir,
        }
    }

    fn connector(&self) -> Connector {
        let address = Address::Tcp(self.address.to_string());
        Connector::new(address, &self.core.pem.identity(), self.core.token.clone())
    }

    async fn consumer(&self) -> Consumer {
        let short = Duration::from_millis(1);
        let consumer = Consumer::builder(self.connector(), Registration::new("leaf"))
            .backoff(short, 20 * short)
            .start();
        within_deadline(consumer.wait_ready(LONG)).await.unwrap();
        consumer
    }

    /// Downstream is where the core is.
    async fn converge(&self, leaf: &Consumer) {
        eventually("the leaf has the core's head", || {
            let (core, leaf) = (self.core.engine.head(), leaf.head().unwrap());
            (core.epoch(), core.sequence()) == (leaf.epoch(), leaf.sequence())
                && core.state().resolved() == leaf.state()
        })
        .await;
    }
}

async fn relay(core: SocketAddr, listener: TcpListener, run_dir: &Path) -> Relay {
    let core = Address::Tcp(core.to_string());
    let started = Relay::start(core, listener, run_dir.to_owned());
    within_deadline(started).await.unwrap()
}

fn write_credentials(run_dir: &Path, pem: &Pem, token: &str) {
    fs::write(run_dir.join("ipc_cert.pem"), pem.text()).unwrap();
    fs::write(run_dir.join("auth_token"), token).unwrap();
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

async fn next(subscription: &mut Subscription<Resolved>) -> Event<Resolved> {
    let event = within_deadline(poll_fn(|cx| subscription.poll_next(cx))).await;
    event.expect("the replica lives")
}

#[tokio::test]
async fn a_snapshot_comes_first_and_each_sequence_follows() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    tree.converge(&leaf).await;
    assert_eq!(&*leaf.origin(), "agent.yaml");
    let mut subscription = leaf.subscribe().unwrap();
    let mut reached = next(&mut subscription).await.sequence();
    for value in 1..100 {
        tree.core.set("a", value);
        let Event::Update(update) = next(&mut subscription).await else {
            panic!("not an update")
        };
        assert_eq!(update.sequence(), reached.next());
        assert_eq!(update.setting().value().as_i64(), Some(value));
        reached = update.sequence();
    }
    tree.converge(&leaf).await;
}

#[tokio::test]
async fn a_batch_stays_whole() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    let mut versions = leaf.subscribe_section("").unwrap();
    within_deadline(versions.next()).await.unwrap();
    for value in 1..20 {
        let set = |name: &str| Change::set(Source::File, key(name), value);
        let batch = [set("a"), set("b"), set("c")];
        let committed = tree.core.engine.publish_batch(&batch).unwrap();
        let change = within_deadline(versions.next()).await.unwrap();
        assert_eq!((change.set.len(), change.sequence), (3, committed.sequence));
    }
}

#[tokio::test]
async fn who_falls_behind_gets_a_snapshot_from_the_relay() {
    let tree = Tree::start().await;
    let client = tree
        .connector()
        .window_bytes(65_535)
        .connect()
        .await
        .unwrap();
    let session = client.register(&Registration::new("slow")).await.unwrap();
    let mut slow = client.stream("slow", &session.id).await.unwrap();
    expect_snapshot(&mut slow).await;
    let text = "x".repeat(1000);
    let mut last = 0;
    for value in 0..2_000 {
        last = tree.core.set("a", format!("{value} {text}"));
        // In step, so that it is the relay that finds its reader slow, and not the core.
        if value % 20 == 0 {
            eventually("the relay has it", || {
                tree.relay.consumer.head().unwrap().sequence().get() == last
            })
            .await;
        }
    }
    assert_eq!(tree.core.handle.agents()[0].streams[0].figures.dropped, 0);
    let mut repairs = 0;
    loop {
        // The stream's own check refuses whatever is out of order.
        let event = within_deadline(slow.next()).await.unwrap();
        repairs += usize::from(matches!(event, ConfigEvent::Snapshot(_)));
        if event.sequence().get() == last {
            break;
        }
    }
    assert!(repairs > 0, "2 MB do not fit a window of 64 KiB");
    tree.core.set("a", 1);
    expect_update(&mut slow).await;
}

#[tokio::test]
async fn a_core_that_restarts_is_only_noticed_by_the_relay() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    let mut states = leaf.states();
    assert!(states.next().await.unwrap().is_ready());
    let Tree {
        core,
        relay,
        address,
        run_dir: _run_dir,
    } = tree;
    let Host {
        pem,
        token,
        engine,
        handle,
        address: core_address,
    } = core;
    within_deadline(handle.shutdown(LONG)).await;
    eventually("the relay notices", || {
        matches!(relay.consumer.state(), ConsumerState::Stale { .. })
    })
    .await;
    // Who comes meanwhile gets what there is.
    let connector = Connector::new(
        Address::Tcp(address.to_string()),
        &pem.identity(),
        token.clone(),
    );
    let late = Consumer::builder(connector, Registration::new("late")).start();
    within_deadline(late.wait_ready(LONG)).await.unwrap();
    assert_eq!(late.get::<i64>("a").unwrap(), 0);

    let change = Change::set(Source::File, key("a"), 7);
    engine.publish(&change).unwrap();
    let listener = TcpListener::bind(core_address).await.unwrap();
    let handle = Server::builder(engine, pem.identity(), token)
        .build()
        .serve_tcp(listener);
    for consumer in [&leaf, &late] {
        eventually("the news arrive", || consumer.get::<i64>("a").unwrap() == 7).await;
    }
    drop(leaf);
    assert!(matches!(states.next().await, Some(ConsumerState::Stopped)));
    within_deadline(relay.shutdown()).await;
    within_deadline(handle.shutdown(LONG)).await;
}

#[tokio::test]
async fn a_relay_that_restarts_is_one_more_cause_to_heal_from() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    let Tree {
        core,
        relay: first,
        address,
        run_dir,
    } = tree;
    within_deadline(first.shutdown()).await;
    core.set("a", 5);
    let listener = TcpListener::bind(address).await.unwrap();
    let second = relay(core.address, listener, run_dir.path()).await;
    let tree = Tree {
        core,
        relay: second,
        address,
        run_dir,
    };
    tree.converge(&leaf).await;
    assert_eq!(leaf.get::<i64>("a").unwrap(), 5);
}

#[tokio::test]
async fn credentials_that_change_are_taken_up_downstream_too() {
    let mut tree = Tree::start().await;
    let run_dir = tree.run_dir.path().to_owned();
    let files = Access::files(
        Address::Tcp(tree.address.to_string()),
        run_dir.join("ipc_cert.pem"),
        run_dir.join("auth_token"),
    );
    let short = Duration::from_millis(1);
    let leaf = Consumer::builder(files, Registration::new("leaf"))
        .backoff(short, 20 * short)
        .start();
    within_deadline(leaf.wait_ready(LONG)).await.unwrap();
    assert!(!tree.relay.renew().await.unwrap(), "nothing has changed");

    let (pem, digits) = (Pem::generate(), "5".repeat(64));
    // Half of it, or nothing of use: what is served with stays.
    fs::write(run_dir.join("ipc_cert.pem"), "no certificate").unwrap();
    tree.relay.renew().await.unwrap_err();
    assert!(leaf.state().is_ready());

    write_credentials(&run_dir, &pem, &digits);
    let (address, engine) = (tree.core.address, tree.core.engine.clone());
    within_deadline(tree.core.handle.shutdown(LONG)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let token = Token::parse(&digits).unwrap();
    let core = Server::builder(engine.clone(), pem.identity(), token)
        .build()
        .serve_tcp(listener);
    assert!(within_deadline(tree.relay.renew()).await.unwrap());
    let change = Change::set(Source::File, key("a"), 7);
    engine.publish(&change).unwrap();
    eventually("the news arrive", || leaf.get::<i64>("a").unwrap() == 7).await;
    // Who has not heard of the change is refused.
    let old = Address::Tcp(tree.address.to_string());
    let old = Connector::new(old, &tree.core.pem.identity(), tree.core.token.clone());
    old.connect().await.unwrap_err();
    within_deadline(tree.relay.shutdown()).await;
    within_deadline(core.shutdown(LONG)).await;
}

#[tokio::test]
async fn a_new_epoch_reaches_the_leaves() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    let mut subscription = leaf.subscribe().unwrap();
    next(&mut subscription).await;
    let state = tree.core.engine.head().state().clone();
    let (epoch, low) = (Epoch::new(9), Sequence::new(0));
    tree.core.engine.adopt(state, epoch, low).unwrap();
    tree.core.set("a", 3);
    tree.converge(&leaf).await;
    let event = next(&mut subscription).await;
    assert!(matches!(event, Event::Snapshot(_)));
    assert_eq!(event.epoch(), epoch);
}

#[tokio::test]
async fn a_core_that_counts_anew_without_epochs_reaches_the_leaves() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    tree.core.set("a", 1);
    tree.converge(&leaf).await;
    let reached = tree.core.engine.head().sequence();
    let Tree { core, relay, .. } = tree;
    let Host {
        pem,
        token,
        handle,
        address,
        ..
    } = core;
    within_deadline(handle.shutdown(LONG)).await;
    // It remembers nothing, and so starts at 0.
    let engine = Engine::builder(Settings::new()).build().unwrap();
    let change = Change::set(Source::File, key("a"), 7);
    engine.publish(&change).unwrap();
    assert!(engine.head().sequence() < reached);
    let listener = TcpListener::bind(address).await.unwrap();
    let _handle = Server::builder(engine.clone(), pem.identity(), token)
        .build()
        .serve_tcp(listener);
    eventually("the news arrive", || leaf.get::<i64>("a").unwrap() == 7).await;
    let head = leaf.head().unwrap();
    let labels = (head.epoch(), head.sequence());
    assert_eq!(labels, (Epoch::NONE, engine.head().sequence()));
    within_deadline(relay.shutdown()).await;
}

#[tokio::test]
async fn a_key_that_vanishes_vanishes_everywhere() {
    let tree = Tree::start().await;
    let leaf = tree.consumer().await;
    let unset = Change::unset(Source::File, key("b"));
    tree.core.engine.publish(&unset).unwrap();
    tree.converge(&leaf).await;
    assert!(leaf.get::<i64>("b").is_err());
}

#[tokio::test]
async fn nothing_can_be_set_through_a_relay() {
    let tree = Tree::start().await;
    let client = tree.connector().connect().await.unwrap();
    let refusal = client.set(Source::File, &key("a"), &1.into(), "test").await;
    assert_eq!(refusal.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(tree.core.engine.head().state().resolved().len(), 2);
}

#[tokio::test]
async fn a_relay_encodes_once_however_many_it_serves() {
    let tree = Tree::start().await;
    let leaves = [tree.consumer().await, tree.consumer().await];
    tree.core.set("a", 1);
    for leaf in &leaves {
        tree.converge(leaf).await;
    }
    assert_eq!(tree.relay.server.stats().updates_encoded, 1);
    assert_eq!(tree.relay.server.stats().snapshots_encoded, 1);
}
