//! The committed code is what the `.proto` files say.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// Relative to `proto/`, which is also where their imports are looked up.
const FILES: [&str; 4] = [
    "configstream/admin/v1/admin.proto",
    "datadog/api/v1/api.proto",
    "datadog/model/v1/model.proto",
    "datadog/remoteagent/v1/remoteagent.proto",
];

#[test]
fn generated_code_is_current() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = package.join("src/generated");
    let scratch = tempfile::tempdir().unwrap();
    generate(&package.join("proto"), scratch.path());

    if env::var_os("CONFIGSTREAM_REGENERATE").is_some() {
        fs::remove_dir_all(&committed).unwrap();
        fs::create_dir(&committed).unwrap();
        for (name, content) in files_in(scratch.path()) {
            fs::write(committed.join(name), content).unwrap();
        }
        return;
    }

    let (wanted, found) = (files_in(scratch.path()), files_in(&committed));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&wanted), names(&found), "{REMEDY}");
    for (name, content) in wanted {
        assert!(found[&name] == content, "{name} differs; {REMEDY}");
    }
}

#[test]
fn every_proto_file_is_generated_from() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(
                    path.strip_prefix(&root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    assert_eq!(found, FILES);
}

fn generate(includes: &Path, out: &Path) {
    let descriptors = protox::compile(FILES, [includes]).unwrap();
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&bare),
    )
    .unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(descriptors)
        .unwrap();
}

fn files_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

const REMEDY: &str =
    "run `CONFIGSTREAM_REGENERATE=1 cargo test -p configstream-proto` and commit the result";
