//! Hides the secrets in a URL.

use std::borrow::Cow;

/// Replaces a secret.
pub(super) const MASK: &str = "***";

/// Whether the value of this query key is never shown, even if the key was asked for.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let has = |word: &str| key.contains(word);
    ["token", "pass", "pwd", "secret", "credential"].into_iter().any(has) || has("api") && has("key")
}

/// Masks whatever may be a secret in a text that is meant as a URL or as a part of one, such as a host. For errors and logs
/// about a text that may be malformed.
///
/// The text may be malformed in any way, for instance by a raw `/`, `?` or `@` in a password. So this hides rather too much:
/// everything from where a password can begin to the last `@`, and all values of the query.
///
/// ```
/// use callboard_core::masked_url;
///
/// assert_eq!(masked_url("http://app:hunter2@h:x?pass=hunter2"), "http://app:***@h:x?pass=***");
/// assert_eq!(masked_url("[::1]:2379"), "[::1]:2379");
/// ```
pub fn masked_url(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let Some(at) = rest.rfind('@') else { return format!("{scheme}{}", without_values(rest)) };
    let user = rest.find([':', '/', '?', '#', '@']).unwrap_or(at);
    // A user without a password may be a token.
    let (shown, mask) = if rest[user..].starts_with(':') { (&rest[..user], ":***") } else { ("", MASK) };
    // An '@' within the query may be in the middle of a secret value, so what follows it is not shown.
    let tail = if rest[user..at].contains('?') { "".into() } else { without_values(&rest[at..]) };
    format!("{scheme}{shown}{mask}{tail}")
}

/// Masks all values behind the first `?`.
fn without_values(text: &str) -> Cow<'_, str> {
    let Some((head, query)) = text.split_once('?') else { return text.into() };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) => format!("{key}={MASK}"),
        None => pair.to_owned(),
    });
    format!("{head}?{}", shown.collect::<Vec<_>>().join("&")).into()
}
