//! Shortens quoted texts.

use std::borrow::Cow;

/// How many characters are quoted.
const LONGEST: usize = 200;

/// The text, or its first 200 characters and `…`. A record may be a megabyte long, and an error or a log line that quotes it
/// would be too. Everything that quotes a registry's content uses this.
///
/// ```
/// use callboard_core::short;
///
/// assert_eq!(short("10.0.0.7:50051"), "10.0.0.7:50051");
/// assert_eq!(short(&"x".repeat(1_000_000)).chars().count(), 201);
/// ```
pub fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}
