//! Sockets that another agent takes.

use std::fs;
use std::os::unix::net::UnixStream;

use crate::harness::Attack;
use crate::support::{Agent, Done, configstream};

#[test]
fn a_unix_socket_that_another_agent_has_taken_stays_when_the_first_one_stops() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let (_target, second) = Attack::new()
        .argument("--listen")
        .argument(&listen)
        .run_lasting(|target| {
            UnixStream::connect(&socket).unwrap();
            fs::remove_file(&socket).unwrap();
            let other = target.root.path().join("other");
            let second = Agent::start_at(&other, &listen, &[]);
            target.last();
            second
        });
    UnixStream::connect(&socket).expect("the second agent still listens");
    let got = second.verb(&["get", "log_level"]);
    assert_eq!(got.code, Some(0), "{got:?}");
}

#[test]
fn an_agent_that_finds_the_ports_taken_ends_and_leaves_the_first_one_alone() {
    Attack::new().run(|target| {
        for attempt in 0..target.scaled(4, 40) {
            let taken = [target.grpc, target.http][attempt % 2].to_string();
            let flag = ["--listen", "--http"][attempt % 2];
            let free = ["--http", "--listen"][attempt % 2];
            let other = target.root.path().join("other");
            let done = Done::of(
                configstream()
                    .args(["run", flag, &taken, free, "127.0.0.1:0", "--run-dir"])
                    .arg(other),
            );
            assert_eq!(done.code, Some(8), "{done:?}");
        }
    });
}
