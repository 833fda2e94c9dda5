//! What README says about cost is what the stored run says.

use std::fs;

use configstream_benches::{
    numbers,
    record::{Record, workspace},
    wins::wins,
};

fn stored() -> Record {
    Record::read(&workspace().join("benches/results.json")).unwrap()
}

#[test]
fn the_numbers_in_the_readme_are_those_of_the_stored_run() {
    let record = stored();
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let expected = numbers::insert(&readme, &record).unwrap();
    assert!(
        readme == expected,
        "README.md and benches/results.json disagree: run `cargo draw`, which writes\n{}",
        numbers::markdown(&record)
    );
}

#[test]
fn each_case_in_which_a_peer_wins_is_explained() {
    let record = stored();
    let wins = wins(&record);
    let unexplained: Vec<_> = wins.iter().filter(|win| win.why.is_none()).collect();
    assert!(
        unexplained.is_empty(),
        "benches/src/wins.rs has to say why: {unexplained:#?}"
    );
}
