//! Clients with the token that register without end, say much, and ask much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use configstream_grpc::Registration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Attack, Target};
use crate::peer::each;

/// Each of these is a connection that registers as fast as it is answered. With a stream it takes
/// the first event.
fn register_in_a_loop(
    target: &Target,
    connections: usize,
    streams: bool,
    registration: impl Fn(u64) -> Registration + Send + Sync + 'static,
) {
    let registered = Arc::new(AtomicU64::new(0));
    let (connector, counted) = (target.connector.clone(), registered.clone());
    let registration = Arc::new(registration);
    each(target, connections, move |_, until, _| {
        let (connector, counted) = (connector.clone(), counted.clone());
        let registration = registration.clone();
        async move {
            while tokio::time::Instant::now() < until {
                let Ok(client) = connector.connect().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let mut open = Vec::new();
                for _ in 0..1_000 {
                    let number = counted.fetch_add(1, Ordering::Relaxed);
                    let Ok(session) = client.register(&registration(number)).await else {
                        continue;
                    };
                    if streams && let Ok(mut events) = client.stream("loop", &session.id).await {
                        let _ = events.next().await;
                        open.push(events);
                    }
                }
            }
        }
    });
    println!("{} registrations", registered.load(Ordering::Relaxed));
}

#[test]
fn one_client_that_registers_in_a_loop_keeps_nobody_out() {
    Attack::new().memory_mib(32).run(|target| {
        register_in_a_loop(target, 1, false, |number| {
            Registration::new(format!("loop {number}"))
        });
    });
}

/// As many sessions as there may be, soon.
#[test]
fn several_clients_that_register_in_a_loop_keep_nobody_out() {
    let attack = Attack::new().set("remote_agent.registry.max_sessions=64");
    attack.memory_mib(32).run(|target| {
        register_in_a_loop(target, 8, false, |_| Registration::new("loop"));
    });
}

#[test]
fn clients_that_register_and_stream_in_a_loop_keep_nobody_out() {
    let attack = Attack::new().set("remote_agent.registry.max_sessions=64");
    attack.memory_mib(64).run(|target| {
        register_in_a_loop(target, 4, true, |number| {
            Registration::new(format!("loop {number}"))
        });
    });
}

/// Eight KiB of empty services, and names of characters that a log has to escape.
#[test]
fn huge_registrations_are_bounded_in_memory_and_in_the_log() {
    Attack::new().memory_mib(64).run(|target| {
        register_in_a_loop(target, 4, false, |number| {
            let mut registration = Registration::new("\u{1b}".repeat(3_000));
            registration.services = vec![String::new(); 2_000];
            registration.flavor = format!("{number}");
            registration
        });
    });
}

/// As many as there may be, each as large as it may be: the guide grants 20 MiB, and as much again
/// for what comes and goes.
#[test]
fn the_largest_registrations_take_no_more_memory_than_the_guide_says() {
    Attack::new().memory_mib(40).run(|target| {
        target.runtime.block_on(fill(target, 4_096));
    });
}

/// So many sessions of the largest kind.
async fn fill(target: &Target, sessions: usize) {
    let mut client = target.connector.connect().await.unwrap();
    for number in 0..sessions {
        // Some of each connection's, since it may register so many at once and no more.
        if number % 1_000 == 999 {
            client = target.connector.connect().await.unwrap();
        }
        let mut registration = Registration::new(format!("{number} {}", "n".repeat(1_900)));
        registration.services = vec!["s".repeat(8); 66];
        client.register(&registration).await.unwrap();
    }
}

/// Pollers of `/status`, with and without a bound, and of `Agents`, while many large registrations
/// are there.
#[test]
fn pollers_of_status_and_agents_cost_no_more_than_their_bound() {
    Attack::new().memory_mib(96).run(|target| {
        let sessions = target.scaled(1_000, 4_000);
        target.runtime.block_on(fill(target, sessions));
        let connector = target.connector.clone();
        each(target, 24, move |way, until, number| {
            let connector = connector.clone();
            async move {
                while tokio::time::Instant::now() < until {
                    match number % 3 {
                        0 => {
                            let Ok(client) = connector.connect().await else {
                                continue;
                            };
                            for _ in 0..10 {
                                let _ = client.agents().await;
                            }
                        }
                        unread => {
                            let Ok(mut stream) = TcpStream::connect(way.http).await else {
                                continue;
                            };
                            let asked = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
                            let _ = stream.write_all(asked).await;
                            let mut sink = vec![0; 64 * 1024];
                            // Half of them take a piece of the answer and wait.
                            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {
                                if unread == 1 {
                                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                                }
                            }
                        }
                    }
                }
            }
        });
    });
}
