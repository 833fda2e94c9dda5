//! Has everyone got it: `configstream set KEY VALUE --wait TIME`.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::Agent;
use crate::view::Watch;

#[test]
fn set_waits_until_every_stream_has_the_change() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let alone = agent
        .verb(&["set", "mine.key", "0", "--wait", "30s"])
        .json();
    assert_eq!(
        (&alone["passed"], &alone["behind"]),
        (&json!(0), &json!([]))
    );

    let watches = [Watch::start(&agent), Watch::start(&agent)];
    for watch in &watches {
        watch.next();
    }
    let verbs: [&[&str]; 2] = [
        &["set", "mine.key", "1", "--wait", "30s"],
        &["unset", "mine.key", "--wait", "30s"],
    ];
    for verb in verbs {
        let done = agent.verb(verb).json();
        assert_eq!((&done["passed"], &done["behind"]), (&json!(2), &json!([])));
        for watch in &watches {
            watch.next();
            assert_eq!(done["sequence"], watch.reached());
        }
        for shown in agent.status()["agents"].as_array().unwrap() {
            assert_eq!(shown["last_sequence_sent"], done["sequence"]);
            assert_eq!((&shown["lag"], &shown["dropped"]), (&json!(0), &json!(0)));
        }
    }
    // Without it nothing is said about anybody.
    let done = agent.verb(&["set", "mine.key", "2"]).json();
    assert_eq!(done.get("behind"), None);
}

#[test]
fn who_does_not_have_the_change_in_time_is_named_and_gets_it_later() {
    let root = tempfile::tempdir().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let (quick, stopped) = (Watch::start(&agent), Watch::start(&agent));
    quick.next();
    stopped.next();
    stopped.signal(Signal::SIGSTOP);
    // More and more, until no buffer on the way takes it; on a busy machine the quick one may be late once, too.
    let large = "x".repeat(100_000);
    let mut done = None;
    agent.until("only the stopped one is behind", |agent| {
        for _ in 0..20 {
            agent.verb(&["set", "mine.text", &large]).json();
            agent.verb(&["unset", "mine.text"]).json();
        }
        let verb = agent.verb(&["set", "mine.key", "1", "--wait", "300ms"]);
        let only = verb.out.contains("\"passed\":1");
        done = Some(verb);
        only
    });
    let done = done.expect("it was run");
    done.demand(12, &["is set in agent-runtime", "1 of 2 streams", "300ms"]);
    let said: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(said["passed"], 1);
    let behind = said["behind"].as_array().unwrap();
    assert_eq!(behind.len(), 1);
    let stream = &behind[0]["streams"][0];
    assert!(stream["last_sequence_sent"].as_u64() < said["sequence"].as_u64());

    stopped.signal(Signal::SIGCONT);
    let again = agent
        .verb(&["set", "mine.key", "1", "--wait", "30s"])
        .json();
    assert_eq!(
        (&again["updates"], &again["passed"], &again["behind"]),
        (&json!(0), &json!(2), &json!([]))
    );
    assert_eq!(again["sequence"], said["sequence"]);
}
