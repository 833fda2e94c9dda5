//! The scenarios that issue and design name.

use std::num::NonZero;
use std::time::Duration;

use super::campaign::{PASSING, Scenario};
use super::readers::Receiver;

/// All of them, publishing for so long.
///
/// * 100 streams over 10 connections, saturated and paced: over TCP, with TLS, over a Unix socket, and each stream with a
///   connection of its own;
/// * paced beside 100 streams that have stopped reading;
/// * 512 streams that wait, and a publisher that wakes them;
/// * 1,000 streams: the join storm, and memory; with TLS, too, and saturated;
/// * one stream, saturated and paced, with and without 100 stalled ones beside it, and a reader that is a task, a thread asleep
///   in the kernel, and a thread that spins. One stream only: more threads that spin than processors measure nothing but
///   the scheduler, and with two, a server has none left beside a second. Where many wait, they wait as tasks.
#[must_use]
pub fn scenarios(duration: Duration) -> Vec<Scenario> {
    let plain = Scenario {
        streams: 100,
        connections: 10,
        tls: false,
        unix: false,
        receiver: Receiver::Async,
        rate: None,
        duration,
        stalled: false,
        passing: PASSING,
    };
    let thousand = Scenario {
        streams: 1_000,
        rate: NonZero::new(50),
        ..plain
    };
    let rates = [None, NonZero::new(1_000)];
    let mut scenarios = Vec::new();
    for rate in rates {
        let same = Scenario { rate, ..plain };
        scenarios.extend([
            same,
            Scenario { tls: true, ..same },
            Scenario { unix: true, ..same },
            Scenario {
                connections: 100,
                ..same
            },
        ]);
    }
    scenarios.extend([
        Scenario {
            rate: NonZero::new(1_000),
            stalled: true,
            ..plain
        },
        Scenario {
            streams: 512,
            connections: 8,
            rate: NonZero::new(200),
            ..plain
        },
        thousand,
        Scenario {
            tls: true,
            ..thousand
        },
        Scenario {
            rate: None,
            ..thousand
        },
    ]);
    for rate in rates {
        for receiver in [Receiver::Async, Receiver::Parked, Receiver::Spinning] {
            for stalled in [false, true] {
                scenarios.push(Scenario {
                    streams: 1,
                    connections: 1,
                    rate,
                    receiver,
                    stalled,
                    ..plain
                });
            }
        }
    }
    scenarios
}
