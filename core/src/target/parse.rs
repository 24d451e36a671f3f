//! Parses a dial URL. Each function parses one part; its error says which part is wrong and why.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::Target;

/// An error says which part is wrong and why, and never quotes it: it may be a password in the wrong place.
type Parsed<T> = std::result::Result<T, Cow<'static, str>>;

pub(super) fn target(text: &str) -> Parsed<Target> {
    if text.contains(char::is_control) {
        return Err("it has a control character".into());
    }
    if text.contains('#') {
        return Err("it has a '#', which is written %23".into());
    }
    let (head, rest) = text.split_once("://").ok_or("it has no '://' (expected scheme://host:port/service)")?;
    let scheme = scheme(head)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The start of another URL: `etcd://http://…`.
    if authority.ends_with(':') && path.starts_with("//") {
        return Err(
            "it has a second '://': the registry's host and port stand at once after the first (TLS to the registry is the \
             query key registry_tls)"
                .into(),
        );
    }
    if path.contains('@') || query.contains('@') {
        return Err(
            "it has an '@' after the hosts, which is written %40 (so are '/' %2F and '?' %3F in a password)".into()
        );
    }
    let (login, hosts_text) =
        authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
    let (user, password) = login.map_or(Ok((None, None)), user_and_password)?;
    let hosts = hosts(hosts_text)?;
    if login.is_some() && hosts.is_empty() {
        return Err("host: there is none after the '@'".into());
    }
    Ok(Target { scheme, user, password, hosts, path: self::path(path)?, query: self::query(query)? })
}

fn scheme(text: &str) -> Parsed<String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !plain || !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err("scheme: it begins with a letter and has letters, digits, '+', '-' and '.' only".into());
    }
    Ok(text.to_ascii_lowercase())
}

fn user_and_password(login: &str) -> Parsed<(Option<String>, Option<String>)> {
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let user = if user.is_empty() { None } else { Some(decoded("user", user)?) };
    Ok((user, password.map(|text| decoded("password", text)).transpose()?))
}

fn hosts(text: &str) -> Parsed<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|host| host_complaint(host).map_or_else(|| Ok(host.to_owned()), |why| Err(format!("host: {why}").into())))
        .collect()
}

/// What is wrong with one host, which may have a port.
fn host_complaint(text: &str) -> Option<&'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((v6, port)) = rest.split_once(']') else { return Some("a '[' has no ']'") };
        if v6.parse::<Ipv6Addr>().is_err() {
            return Some("what stands in brackets is not an IPv6 address");
        }
        return match port.strip_prefix(':') {
            Some(port) => port_complaint(port),
            None => (!port.is_empty()).then_some("a ']' is followed by something other than ':' and a port"),
        };
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    if port.is_some_and(|port| port.contains(':')) {
        return Some("it has several ':' (an IPv6 address stands in brackets)");
    }
    name_complaint(name).or(port.and_then(port_complaint))
}

fn name_complaint(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-%".contains(&b));
    (!plain || !well_encoded(name)).then_some("allowed are letters, digits, '.', '_', '-' and %XX")
}

fn port_complaint(port: &str) -> Option<&'static str> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (!digits || port.parse::<u16>().map_or(true, |port| port == 0))
        .then_some("its port is not a number from 1 to 65535")
}

fn path(text: &str) -> Parsed<String> {
    match text {
        "" | "/" => Err("path: it names the service, and is missing".into()),
        _ => decoded("path", text),
    }
}

fn query(text: &str) -> Parsed<Vec<(String, String)>> {
    // Refuses what the next line would replace silently.
    decoded("query", text)?;
    let mut pairs = Vec::<(String, String)>::new();
    for (key, value) in form_urlencoded::parse(text.as_bytes()).into_owned() {
        if pairs.iter().any(|(earlier, _)| *earlier == key) {
            return Err("query: a key is in it twice".into());
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn decoded(part: &'static str, text: &str) -> Parsed<String> {
    if !well_encoded(text) {
        return Err(format!(
            "{part}: a '%' is not followed by two hexadecimal digits (the character itself is written %25)"
        )
        .into());
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(format!("{part}: it is not UTF-8").into()),
    }
}

fn well_encoded(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}
