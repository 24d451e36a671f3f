//! What must not be shown of a URL.

use std::borrow::Cow;

/// Stands where a secret stood.
pub(super) const MASK: &str = "***";

/// Whether the value of this query key is kept from sight even from who has asked for it.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let has = |word: &str| key.contains(word);
    ["token", "pass", "pwd", "secret", "credential"].into_iter().any(has) || has("api") && has("key")
}

/// A text that is meant as a URL or as a part of one, such as a host, as it may be shown: without what may be a secret.
/// For errors and logs about a text that is not known to be a good one.
///
/// The text may be malformed in any way, a raw `/`, `?` or `@` in a password above all, so this hides rather too much: from
/// where a password can begin to the last `@`, and all values of the query.
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
    // Who does not stand before a password may be a token, whatever follows the '@' behind it.
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
