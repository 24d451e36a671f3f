//! Checks that the messages in `src/generated` match the files in `proto`.
//!
//! They are checked in, so that users of the crate need no build script and no protobuf compiler. After a change of a
//! `.proto` file, or of the generator's version, renew them:
//!
//! ```sh
//! RENEW=1 cargo test -p callboard-protocols --test generated
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["xds/service/orca/v3/orca.proto", "grpc/lb/v1/load_balancer.proto"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("UTF-8"))
        })
        .collect()
}

/// Generates the messages into a folder. The services are not generated: their servers are written by hand.
fn generate(into: &Path) {
    let descriptors = protox::compile(FILES, [folder("proto")]).expect("proto files that can be read");
    let builder = tonic_prost_build::configure().build_client(false).build_server(false).btree_map(".");
    builder.out_dir(into).compile_fds(descriptors).expect("code from them");
}

#[test]
fn what_is_checked_in_is_what_the_proto_files_say() {
    let (made, kept) = (tempfile::tempdir().unwrap(), folder("src/generated"));
    generate(made.path());
    let made = files(made.path());
    assert_eq!(made.len(), 3, "one file for each package: {:?}", made.keys());
    if std::env::var_os("RENEW").is_some() {
        for (name, text) in &made {
            fs::write(kept.join(name), text).unwrap();
        }
    }
    let mut kept = files(&kept);
    kept.remove("mod.rs");
    let how = "say RENEW=1 cargo test -p callboard-protocols --test generated";
    assert!(made.keys().eq(kept.keys()), "{:?} are generated, {:?} are checked in: {how}", made.keys(), kept.keys());
    for (name, text) in made {
        assert!(kept[&name] == text, "src/generated/{name} is not what the .proto files say: {how}");
    }
}
