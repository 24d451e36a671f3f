//! What must not be shown of a URL.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Stands where a secret stood.
pub(super) const MASK: &str = "***";

/// Whether the value of this query key is kept from sight.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "password", "secret"].iter().any(|word| key.contains(word))
}

/// A text that is meant as a URL, without what may be a secret. The text may be malformed in any way, a raw `/`, `?` or
/// `@` in a password above all, so this hides rather too much: from where a password can begin to the last `@`.
pub(super) fn masked(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let Some(at) = rest.rfind('@') else { return format!("{scheme}{}", without_secret_values(rest)) };
    let user = rest.find([':', '/', '?', '#']).unwrap_or(at).min(at);
    // Who does not stand before a password may be a token.
    let (shown, mask) = if rest[user..].starts_with(':') { (&rest[..user], ":***") } else { ("", MASK) };
    // An '@' within the query may be in the middle of a secret value, so what follows it is not shown.
    let tail = if rest[user..at].contains('?') { "".into() } else { without_secret_values(&rest[at..]) };
    format!("{scheme}{shown}{mask}{tail}")
}

/// Masks the values of secret keys behind the first `?`.
fn without_secret_values(text: &str) -> Cow<'_, str> {
    let Some((head, query)) = text.split_once('?') else { return text.into() };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if is_secret(&percent_decode_str(key).decode_utf8_lossy()) => format!("{key}={MASK}"),
        _ => pair.to_owned(),
    });
    format!("{head}?{}", shown.collect::<Vec<_>>().join("&")).into()
}
