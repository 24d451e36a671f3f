//! The guide's page about tonic's channel has a word about each of its options.

use std::fs;
use std::path::Path;

use cargo_metadata::MetadataCommand;

/// The names of the public functions in a file, its unit tests aside.
fn public_functions(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter_map(|line| {
        let signature =
            line.trim_start().strip_prefix("pub ")?.trim_start_matches("const ").trim_start_matches("async ");
        signature.strip_prefix("fn ")?.split(['(', '<']).next()
    })
}

#[test]
fn the_page_about_tonics_channel_names_each_of_its_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/guide/coming-from-tonic.md")).expect("the page is there");
    let locked = ["--locked".to_owned()];
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).other_options(locked).exec();
    let metadata = metadata.expect("`cargo metadata --locked` works where the tests were built");
    let tonic = metadata.packages.iter().find(|package| package.name == "tonic").expect("tonic is built");
    let folder = tonic.manifest_path.parent().expect("a folder").join("src/transport/channel");
    let mut found = 0;
    for file in ["endpoint.rs", "mod.rs", "tls.rs"] {
        let source = fs::read_to_string(folder.join(file)).expect("tonic's source");
        for name in public_functions(&source).filter(|name| !name.starts_with("get_")) {
            found += 1;
            let named = [format!("`{name}`"), format!("`Channel::{name}`")].iter().any(|name| page.contains(name));
            let family = name == "balance_channel_with_executor" && page.contains("`balance_channel`");
            assert!(named || family, "{file}: the page says nothing of {name}");
        }
    }
    assert!(found > 40, "{found} options are too few to be all");
}
