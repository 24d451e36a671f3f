//! Which paths within its crate the text of a module names.

use std::collections::BTreeMap;

/// A path from the root of a crate: `["client", "Agent"]` for `crate::client::Agent`.
pub(crate) type Path = Vec<String>;

/// What one module names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    /// Every path that begins with `crate`, `super`, `self` or, in a `use`, with a module that is declared here.
    pub(crate) paths: Vec<Path>,
    /// The names that a `use` brings into the module, and so may re-export.
    pub(crate) names: BTreeMap<String, Path>,
}

/// Reads the text of the module at this path. What is compiled for tests alone does not count.
pub(crate) fn named(module: &[String], text: &str) -> Named {
    let tokens = without_tests(&tokens(text));
    let children = tokens.windows(2).filter(|two| two[0] == "mod").map(|two| two[1].clone()).collect();
    let mut reader = Reader { module, children, tokens: &tokens, at: 0, named: Named::default() };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.named
}

struct Reader<'a> {
    module: &'a [String],
    /// The modules that are declared here.
    children: Vec<String>,
    tokens: &'a [String],
    at: usize,
    named: Named,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    /// Reads a `use`, a path or one token.
    fn step(&mut self) {
        let before = self.at.checked_sub(1).map_or("", |before| &self.tokens[before]);
        match self.peek(0) {
            "use" => {
                self.at += 1;
                if let Some(start) = self.start(true) {
                    self.tree(start, true);
                }
            }
            // The scope of a visibility is no use.
            "crate" | "super" | "self" if self.peek(1) == "::" && before != "::" && before != "in" => {
                if let Some(start) = self.start(false) {
                    self.tree(start, false);
                }
            }
            _ => self.at += 1,
        }
    }

    /// Reads the beginning of a path, and says where in the crate it leads. None if it leads out of the crate.
    fn start(&mut self, in_use: bool) -> Option<Path> {
        let first = self.peek(0);
        if first == "crate" || first == "self" {
            let start = if first == "crate" { &[] } else { self.module };
            self.skip_segment();
            return Some(start.to_vec());
        }
        if first == "super" {
            let mut start = self.module.to_vec();
            while self.peek(0) == "super" {
                start.pop();
                self.skip_segment();
            }
            return Some(start);
        }
        (in_use && self.children.iter().any(|child| child == first)).then(|| self.module.to_vec())
    }

    fn skip_segment(&mut self) {
        self.at += if self.peek(1) == "::" { 2 } else { 1 };
    }

    /// Reads the rest of a path, or of the tree of a `use`.
    fn tree(&mut self, mut path: Path, in_use: bool) {
        loop {
            match self.peek(0) {
                "{" if in_use => return self.group(&path),
                "*" => {
                    self.at += 1;
                    return self.note(path, None);
                }
                word if is_word(word) => {
                    if word != "self" {
                        path.push(word.to_owned());
                    }
                    self.at += 1;
                    if self.peek(0) == "::" {
                        self.at += 1;
                        continue;
                    }
                    let alias = (self.peek(0) == "as").then(|| self.peek(1).to_owned());
                    let name = alias.or_else(|| path.last().cloned()).filter(|_| in_use);
                    return self.note(path, name);
                }
                _ => return self.note(path, None),
            }
        }
    }

    fn group(&mut self, path: &[String]) {
        self.at += 1;
        while !matches!(self.peek(0), "}" | "") {
            self.tree(path.to_vec(), true);
            while !matches!(self.peek(0), "}" | "," | "") {
                self.at += 1;
            }
            if self.peek(0) == "," {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn note(&mut self, path: Path, name: Option<String>) {
        if let Some(name) = name {
            self.named.names.insert(name, path.clone());
        }
        self.named.paths.push(path);
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Leaves out each item after `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].iter().take(TEST.len()).eq(TEST.iter()) {
            at = after_item(tokens, at + TEST.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where an item ends: after its block, or after its `;`.
fn after_item(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.as_str(), ";" | "}") {
            break;
        }
    }
    at
}

/// Words, `::` and other signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        if let Some(length) = skipped(rest) {
            rest = &rest[length..];
            continue;
        }
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match first {
            ':' if rest.starts_with("::") => 2,
            _ if word > 0 => word,
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// How long the comment, string or character is with which a text begins. None if it begins with none.
fn skipped(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    let hashes = text.strip_prefix('r').map(|rest| rest.len() - rest.trim_start_matches('#').len());
    if let Some(hashes) = hashes
        && text[1 + hashes..].starts_with('"')
    {
        let (begin, end) = (2 + hashes, format!("\"{}", "#".repeat(hashes)));
        return Some(text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len()));
    }
    match text.chars().next()? {
        '"' => Some(quoted(text, '"')),
        // Anything else after a quote is a lifetime.
        '\'' if text.starts_with("'\\") || text.chars().nth(2) == Some('\'') => Some(quoted(text, '\'')),
        _ => None,
    }
}

/// How long a text in quotes is, with them.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split("::").filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
    }

    fn paths(module: &str, text: &str) -> Vec<String> {
        named(&path(module), text).paths.iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn every_way_to_name_a_module_is_read() {
        for (text, expected) in [
            ("use crate::a::B;", vec!["a::B"]),
            ("use crate::{a, b::{C, d::{self, E}}, f as g};", vec!["a", "b::C", "b::d", "b::d::E", "f"]),
            ("pub(crate) use super::x::*;", vec!["one::x"]),
            ("use self::y::Z;", vec!["one::two::y::Z"]),
            ("use super::super::z;", vec!["z"]),
            ("mod y;\nuse y::Z;", vec!["one::two::y::Z"]),
            ("fn f() -> crate::a::B<super::C> { crate::d::e::<u8>() }", vec!["a::B", "one::C", "d::e"]),
            ("use std::fmt; use tokio::sync;", vec![]),
        ] {
            assert_eq!(paths("one::two", text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_path_of_the_code_is_left_out() {
        for text in [
            "// use crate::a;\n/* crate::b */ /// [`c`](crate::c)\n",
            r##"const A: &str = "crate::a"; const B: &str = r#"" crate::b"#; const C: char = '"'; "##,
            "pub(in crate::a) fn f<'a>(self) { self.b(); x::crate_y::z() }",
            "#[cfg(test)]\nmod tests { use crate::a; }\n#[cfg(test)] use crate::b::{C};",
        ] {
            assert_eq!(paths("one::two", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(paths("one", "#[cfg(test)]\nmod tests { fn f() { [1; 2] } }\nuse crate::a;"), ["a"]);
    }

    #[test]
    fn a_use_brings_names() {
        let names = named(&path("one"), "pub use self::two::{Three, Four as Five};\nuse crate::six;").names;
        let expected = [("Five", "one::two::Four"), ("Three", "one::two::Three"), ("six", "six")];
        assert_eq!(names, expected.map(|(name, to)| (name.to_owned(), path(to))).into());
    }
}
