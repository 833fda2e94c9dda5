//! How long a consumer waits before it tries again.
//!
//! # Two kinds of failure
//! * **Nobody answered**: nobody listens at the address, or whoever does hangs up before a word is said. That is what a
//!   restart looks like, and a try costs a packet each way. Pauses grow from 250 ms to 2 s only.
//! * **Anything else**: no connection in time, a refusal, a stream that broke. A try costs the server a handshake, and
//!   perhaps a whole snapshot, so pauses grow to 30 s.
//!
//! Each kind grows by itself, and both start over after a healthy stream: an hour without a server does not make the
//! first refusal after it cost half a minute, and refusals do not grow less because there was nobody in between.
//!
//! # Numbers
//! Up to as much again comes on top of a pause, by chance, evenly. So after some seconds without a server a pause is
//! between 2 and 4 s, and 1,000 consumers knock 333 times a second in all. From the moment that there is a server they
//! come at that rate: the last one after 4 s, which leaves a second of five to be current in. (Tries at random moments of
//! 4 s, "full jitter", would be as late and knock 500 times a second.) A server that refuses 1,000 consumers is asked 22
//! times a second. The busiest is an outage of 250 ms: nobody has paused for long, and all come within as much again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// What the pauses grow from and to, but for jitter, which at most doubles them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    /// While nobody answers. Not below the shortest and not beyond the longest, whatever is set.
    pub(super) longest_unanswered: Duration,
}

/// The pauses of one consumer.
pub(super) struct Backoff {
    pauses: Pauses,
    unanswered: ExponentialBackoff,
    refused: ExponentialBackoff,
}

impl Pauses {
    /// From the start.
    pub(super) fn start(self) -> Backoff {
        self.start_with(ExponentialBuilder::new())
    }

    fn start_with(mut self, builder: ExponentialBuilder) -> Backoff {
        self.shortest = self.shortest.max(SHORTEST);
        let growing_to = |longest| {
            builder
                .with_jitter()
                .with_min_delay(self.shortest)
                .with_max_delay(longest)
                .without_max_times()
                .build()
        };
        let longest = self.longest.max(self.shortest);
        let longest_unanswered = self.longest_unanswered.clamp(self.shortest, longest);
        Backoff {
            pauses: self,
            unanswered: growing_to(longest_unanswered),
            refused: growing_to(longest),
        }
    }
}

impl Backoff {
    /// The pause after another failure.
    pub(super) fn next(&mut self, unanswered: bool) -> Duration {
        let pauses = if unanswered {
            &mut self.unanswered
        } else {
            &mut self.refused
        };
        pauses.next().unwrap_or(self.pauses.longest)
    }

    /// As if nothing had happened yet.
    pub(super) fn start_over(&mut self) {
        *self = self.pauses.start();
    }
}

/// Whatever is set: without a pause a consumer would do nothing but knock.
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::ConsumerBuilder;

    const CONSUMERS: u64 = 1_000;
    const TENTH: Duration = Duration::from_millis(100);

    fn defaults() -> Pauses {
        Pauses {
            shortest: ConsumerBuilder::DEFAULT_MIN_DELAY,
            longest: ConsumerBuilder::DEFAULT_MAX_DELAY,
            longest_unanswered: ConsumerBuilder::DEFAULT_MAX_UNANSWERED_DELAY,
        }
    }

    /// When each of a thousand that lose one server at one moment tries again, until one try succeeds after `outage`.
    fn tries(outage: Duration) -> Vec<Vec<Duration>> {
        let tries_of = |seed| {
            let builder = ExponentialBuilder::new().with_jitter_seed(seed);
            let mut backoff = defaults().start_with(builder);
            // The stream ended; after that, nobody is there.
            let mut now = backoff.next(false);
            let mut tries = vec![now];
            while now < outage {
                now += backoff.next(true);
                tries.push(now);
            }
            tries
        };
        (0..CONSUMERS).map(tries_of).collect()
    }

    /// The most that any tenth of a second holds.
    fn busiest(times: impl Iterator<Item = Duration>) -> u64 {
        let mut tenths = std::collections::BTreeMap::<u128, u64>::new();
        for time in times {
            *tenths
                .entry(time.as_nanos() / TENTH.as_nanos())
                .or_default() += 1;
        }
        tenths.into_values().max().unwrap()
    }

    #[test]
    fn after_any_outage_a_thousand_are_back_within_four_seconds_and_not_as_one() {
        for (seconds, busiest_tenth) in [
            (0.3, 500),
            (1.0, 250),
            (3.0, 150),
            (10.0, 80),
            (60.0, 60),
            (3_600.0, 60),
        ] {
            let outage = Duration::from_secs_f64(seconds);
            let tries = tries(outage);
            let back = || tries.iter().map(|tries| *tries.last().unwrap() - outage);
            let last = back().max().unwrap();
            assert!(last <= Duration::from_secs(4), "{last:?} after {outage:?}");
            let most = busiest(back());
            assert!(most <= busiest_tenth, "{most} at once after {outage:?}");
        }
    }

    #[test]
    fn a_server_that_is_away_for_long_is_not_knocked_at_in_a_storm() {
        let outage = Duration::from_secs(3_600);
        let settled = |time: &Duration| *time > Duration::from_secs(60) && *time < outage;
        let tries: Vec<_> = tries(outage)
            .into_iter()
            .flatten()
            .filter(settled)
            .collect();
        let per_second = tries.len() as u64 / (3_600 - 60);
        assert!((325..=340).contains(&per_second), "{per_second}");
        assert!(busiest(tries.into_iter()) <= 80);
    }

    #[test]
    fn who_is_refused_waits_longer_and_longer_and_nobody_in_between_changes_that() {
        let mut backoff = defaults().start();
        for step in 0..20 {
            for _ in 0..50 {
                let pause = backoff.next(true);
                assert!(pause <= Duration::from_secs(4), "{pause:?}");
            }
            let expected = Duration::from_millis(250 << step.min(7)).min(Duration::from_secs(30));
            let pause = backoff.next(false);
            assert!(pause >= expected && pause <= 2 * expected, "{pause:?}");
        }
        backoff.start_over();
        assert!(backoff.next(false) <= Duration::from_millis(500));
    }

    #[test]
    fn there_is_a_pause_though_none_was_asked_for() {
        let none = Pauses {
            shortest: Duration::ZERO,
            longest: Duration::ZERO,
            longest_unanswered: Duration::ZERO,
        };
        let mut backoff = none.start();
        for unanswered in [true, false, true, false] {
            assert!(backoff.next(unanswered) >= SHORTEST);
        }
    }

    #[test]
    fn what_is_set_holds_for_both_kinds() {
        let set = |shortest, longest, longest_unanswered| Pauses {
            shortest: Duration::from_secs(shortest),
            longest: Duration::from_secs(longest),
            longest_unanswered: Duration::from_secs(longest_unanswered),
        };
        for (pauses, unanswered, refused) in [
            (set(1, 8, 2), 2, 8),
            (set(1, 8, 30), 8, 8),
            (set(5, 8, 2), 5, 8),
            (set(5, 1, 2), 5, 5),
        ] {
            let mut backoff = pauses.start();
            let mut longest =
                |unanswered| (0..20).map(|_| backoff.next(unanswered)).last().unwrap();
            for (is_unanswered, expected) in [(true, unanswered), (false, refused)] {
                let (pause, expected) = (longest(is_unanswered), Duration::from_secs(expected));
                assert!(
                    pause >= expected && pause <= 2 * expected,
                    "{pauses:?}: {pause:?}"
                );
            }
        }
    }
}
