//! What may stand in which file.

use std::path::Path;

use super::workspace::{Workspace, folder, hold, root, sources};

/// A file longer than this, its unit tests aside, has more than one idea in it.
const LONGEST_FILE: usize = 300;

#[test]
fn h2_is_named_under_src_transport_alone() {
    let elsewhere = sources(&root().join("src")).into_iter().filter(|(path, _)| !path.starts_with("src/transport"));
    hold(elsewhere.filter(|(_, text)| names_h2(text)).map(|(path, _)| {
        format!("{} names h2: give src/transport a function that does what is needed", path.display())
    }));
}

/// Whether the crate's path is in the text, as a word of its own.
fn names_h2(text: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices("h2::").any(|(at, _)| !text[..at].ends_with(in_word))
}

#[test]
fn features_are_asked_for_in_the_facade_alone() {
    // One exception, for the reason that stands there.
    let excepted = |path: &Path| path.starts_with("backends/zookeeper/src") && path.ends_with("tls.rs");
    let elsewhere = sources(&root()).into_iter().filter(|(path, _)| !path.starts_with("src") && !excepted(path));
    let asks = |text: &str| text.lines().any(|line| line.contains("cfg") && line.contains(concat!("feature", " =")));
    hold(elsewhere.filter(|(_, text)| asks(text)).map(|(path, _)| {
        format!(
            "{} asks for a feature: features are in the facade's src/ alone, and only make things nameable",
            path.display()
        )
    }));
}

#[test]
fn a_file_has_one_idea() {
    let workspace = Workspace::load();
    let files = workspace.libraries().flat_map(|package| sources(&folder(package).join("src")));
    let own = files.filter(|(path, _)| path.file_name().is_none_or(|name| name != "tests.rs"));
    hold(own.filter_map(|(path, text)| {
        let lines = lines_before_tests(&text);
        (lines > LONGEST_FILE).then(|| {
            format!(
                "{} has {lines} lines before its tests: split it by idea into files of at most {LONGEST_FILE}",
                path.display()
            )
        })
    }));
}

/// How many lines come before the module of unit tests, if there is one in this file.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ") && two[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

#[test]
fn the_searches_find_what_they_look_for() {
    assert!(names_h2("use h2::client;") && names_h2("(h2::Error)") && names_h2("::h2::x"));
    assert!(!names_h2("oh2::x") && !names_h2("_h2::x") && !names_h2("the h2 crate"));
    assert_eq!(lines_before_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
    assert_eq!(lines_before_tests("#[cfg(test)]\nmod tests;\na\nb\n"), 4);
}
