//! The load generator itself, in short: what it measures is another matter.

use std::path::Path;
use std::process::Command;

/// Runs the program; what it printed.
fn load(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_scenario_is_measured_at_both_servers() {
    let of_all = [
        "--runs",
        "1",
        "--seconds",
        "0.1",
        "--streams",
        "5",
        "--connections",
        "2",
    ];
    let scenarios: [&[&str]; 5] = [
        &["--rate", "100"],
        &["--tls"],
        &["--unix", "--tls"],
        &[
            "--receiver",
            "parked",
            "--stalled",
            "--passing",
            "1000",
            "--rate",
            "100",
        ],
        &["--receiver", "spinning", "--unix"],
    ];
    for scenario in scenarios {
        let printed = load(&[&["run"], &of_all[..], scenario].concat());
        let servers: Vec<_> = printed
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .collect();
        // And a third where there is a Go toolchain.
        assert_eq!(servers[..2], ["engine", "naive_tonic"], "{printed}");
    }
}

#[test]
fn stalled_streams_do_not_hold_up_a_publisher_that_follows_the_others() {
    let options = "run --stalled --passing 50000 --streams 2 --connections 1 --runs 1 --seconds 0.1 --only engine";
    let printed = load(&options.split(' ').collect::<Vec<_>>());
    // How many it delivers in a second: none, if it had waited.
    let delivered = printed
        .lines()
        .nth(1)
        .and_then(|line| line.split_once("/s"))
        .and_then(|(before, _)| before.split_whitespace().last()?.parse::<f64>().ok());
    assert!(delivered > Some(0.0), "{printed}");
}

#[test]
fn one_scenario_leaves_its_figures_as_json_too() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("run.json");
    let json = ["--json", path.to_str().expect("a path of text")];
    let options = "run --streams 2 --connections 1 --rate 100 --stalled --passing 1000 --runs 2 --seconds 0.1";
    load(&[&options.split(' ').collect::<Vec<_>>()[..], &json].concat());
    let text = std::fs::read_to_string(&path).expect("it was written");
    let part: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let figures = part["figures"].as_array().expect("a list");
    for id in [
        "wire_cpu/engine/paced_100_2x1_tcp_stalled",
        "wire_cpu_ratio/naive_tonic/paced_100_2x1_tcp_stalled",
        "wire_stalled_memory/engine/paced_100_2x1_tcp_stalled",
    ] {
        let figure = figures.iter().find(|figure| figure["id"] == id).expect(id);
        assert_eq!(figure["samples"], 2, "{figure}");
    }
}

#[test]
fn figures_are_left_as_json() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wire.json");
    let json = ["--json", path.to_str().expect("a path of text")];
    let options = [
        "all",
        "--only",
        "paced_1000_100x10_unix",
        "--runs",
        "1",
        "--seconds",
        "0.1",
    ];
    load(&[&options[..], &json].concat());
    let text = std::fs::read_to_string(&path).expect("it was written");
    let part: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let figures = part["figures"].as_array().expect("a list");
    let of = |id: &str| figures.iter().find(|figure| figure["id"] == id).expect(id);
    // How many a publish takes depends on the machine: one that is busy gives a stream several updates at once.
    for server in ["engine", "naive_tonic"] {
        let writes = of(&format!("wire_writes/{server}/paced_1000_100x10_unix"));
        assert!(writes["median"].as_f64() > Some(0.0), "{writes}");
        let pauses = of(&format!("wire_pauses/{server}/paced_1000_100x10_unix"));
        assert!(pauses["median"].as_f64() > Some(0.0), "{pauses}");
    }
}
