//! What README says about cost is what the stored run says.

use std::fs;

use configstream_benches::{
    numbers,
    record::{Record, workspace},
};

#[test]
fn the_numbers_in_the_readme_are_those_of_the_stored_run() {
    let record = Record::read(&workspace().join("benches/results.json")).unwrap();
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let expected = numbers::insert(&readme, &record).unwrap();
    assert!(
        readme == expected,
        "README.md and benches/results.json disagree: run `cargo draw`, which writes\n{}",
        numbers::table(&record)
    );
}
