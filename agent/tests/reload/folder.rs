//! A folder stands for the files in it, as they come and go.

use std::fs;
use std::os::unix::fs::symlink;

use configstream_engine::settings::{Key, Value};

use crate::{Agent, replace, start, write};

fn place(agent: &Agent, key: &str) -> String {
    let key = Key::parse(key).unwrap();
    let layers = agent.engine.head().state().explain(&key);
    layers[0].provenance.as_ref().unwrap().to_string()
}

#[test]
fn files_that_appear_and_go_count_without_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("conf.d");
    fs::create_dir(&folder).unwrap();
    let base = root.path().join("base.yaml");
    write(&base, "mine: 1\nyours: 1\n");
    let agent = start(&[base, folder.clone()]);
    agent.until_value("mine", 1);

    write(&folder.join("20-b.yaml"), "# b\nmine: 20\n");
    agent.until_value("mine", 20);
    assert_eq!(
        place(&agent, "mine"),
        format!("{}:2", folder.join("20-b.yaml").display())
    );
    write(&folder.join("30-c.yml"), "mine: 30\n");
    agent.until_value("mine", 30);
    // It stands before the others, so it does not win; but it counts.
    write(&folder.join("10-a.yaml"), "mine: 10\nyours: 10\n");
    agent.until_value("yours", 10);
    assert_eq!(agent.value("mine"), Some(Value::Int(30)));

    // A new name is another place in the order.
    fs::rename(folder.join("10-a.yaml"), folder.join("40-a.yaml")).unwrap();
    agent.until_value("mine", 10);
    fs::remove_file(folder.join("40-a.yaml")).unwrap();
    fs::remove_file(folder.join("30-c.yml")).unwrap();
    agent.until_value("mine", 20);
    agent.until_value("yours", 1);
    assert_eq!(agent.report.state().failures, 0);
}

#[test]
fn what_editors_leave_behind_is_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.yaml"), "mine: 1\n");
    let agent = start(&[folder.path().to_owned()]);
    for name in [
        ".a.yaml.swp",
        "a.yaml~",
        "#a.yaml#",
        ".#a.yaml",
        "a.yaml.bak",
        ".hidden.yaml",
    ] {
        write(&folder.path().join(name), "mine: 666\n");
    }
    // What comes after them has been seen, so they have been, too.
    write(&folder.path().join("b.yaml"), "yours: 1\n");
    agent.until_value("yours", 1);
    assert_eq!(agent.value("mine"), Some(Value::Int(1)));
}

#[test]
fn a_broken_file_in_a_folder_leaves_everything_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    write(&good, "mine: 1\n");
    let agent = start(&[folder.path().to_owned()]);
    write(&bad, "yours: [1\n");
    agent.until("the error", |agent| {
        agent.report.state().error.contains("b.yaml:")
    });
    replace(&good, "mine: 2\n");
    agent.source.reload();
    agent.until("another look", |agent| agent.report.state().failures >= 2);
    assert_eq!(agent.value("mine"), Some(Value::Int(1)));
    fs::remove_file(&bad).unwrap();
    agent.until_value("mine", 2);
    agent.until("recovery", |agent| agent.report.state().error.is_empty());
}

#[test]
fn a_folder_of_links_is_followed_as_kubernetes_swaps_it() {
    let folder = tempfile::tempdir().unwrap();
    let publish = |number: i64| {
        let data = folder.path().join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        write(&data.join("core.yaml"), &format!("mine: {number}\n"));
        let link = folder.path().join("..data_tmp");
        symlink(format!("..{number}"), &link).unwrap();
        fs::rename(&link, folder.path().join("..data")).unwrap();
        if number > 0 {
            fs::remove_dir_all(folder.path().join(format!("..{}", number - 1))).unwrap();
        }
    };
    publish(0);
    symlink("..data/core.yaml", folder.path().join("core.yaml")).unwrap();
    let agent = start(&[folder.path().to_owned()]);
    for number in 1..4 {
        publish(number);
        agent.until_value("mine", number);
    }
}

#[test]
fn a_folder_that_is_replaced_is_found_again_and_one_that_is_gone_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("conf.d");
    fs::create_dir(&folder).unwrap();
    write(&folder.join("a.yaml"), "mine: 1\n");
    let agent = start(std::slice::from_ref(&folder));
    fs::rename(&folder, root.path().join("old")).unwrap();
    agent.until("the error", |agent| {
        agent
            .report
            .state()
            .error
            .contains("conf.d: cannot be read")
    });
    assert_eq!(agent.value("mine"), Some(Value::Int(1)));
    fs::create_dir(&folder).unwrap();
    write(&folder.join("a.yaml"), "mine: 2\n");
    agent.until_value("mine", 2);
}
