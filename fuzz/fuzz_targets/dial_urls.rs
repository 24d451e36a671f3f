//! Dial URLs, whoever wrote them: what is read is printed so that it is read again, and no secret in one is ever shown.
#![no_main]

use arbitrary::Arbitrary;
use callboard::{Dialer, Error, Target, masked_url, registry};
use callboard_fuzz::{paused, within};
use libfuzzer_sys::fuzz_target;

/// Stands where a secret does. It is found in no URL by chance.
const SECRET: &str = "hunter2";
/// What stands in the place of one.
const MASK: &str = "***";

#[derive(Arbitrary, Debug)]
enum Input {
    /// As somebody has typed it.
    Text(String),
    /// With a secret in it.
    Secret { scheme: u8, before: String, place: Place, around: (String, String), host: u8, query: Vec<(Key, String)> },
}

/// Where the secret is.
#[derive(Arbitrary, Debug)]
enum Place {
    User,
    Password,
    /// Under a key that nobody knows, or that is a secret's.
    Query(u8),
}

#[derive(Arbitrary, Debug)]
enum Key {
    Known(u8),
    Other(String),
}

const SCHEMES: [&str; 7] = ["etcd", "consul", "zookeeper", "file", "memory", "ETCD", "other"];
const HOSTS: [&str; 6] = ["h", "h1:1,h2", "[::1]:2", "%2Frun%2Fa.sock", "", "h:0"];
const SECRET_KEYS: [&str; 8] =
    ["token", "password", "pass", "api_key", "client_secret", "credentials", "misspelt", "TOKEN"];
const KEYS: [&str; 24] = [
    "balancer",
    "timeout",
    "wait_for_ready",
    "connect_timeout",
    "service_config",
    "external_balancers",
    "max_instances",
    "max_dials",
    "shuffle",
    "ttl",
    "relist",
    "prefix",
    "registry_tls",
    "registry_server_name",
    "root",
    "chroot",
    "session",
    "acl",
    "max_request",
    "wait",
    "check",
    "tag",
    "connections",
    "mode",
];

fuzz_target!(|input: Input| {
    within(16 << 20, || match input {
        Input::Text(text) => {
            paused(async { drop(shown(&text)) });
        }
        Input::Secret { scheme, before, place, around: (left, right), host, query } => {
            let url = with_secret(scheme, &before, &place, (&left, &right), host, &query);
            // It stands where it is put, and nowhere else.
            if url.matches(SECRET).count() != 1 {
                return;
            }
            let shown = paused(async { shown(&url) });
            assert!(!shown.contains(SECRET), "a secret is shown of {url:?}: {shown}");
        }
    });
});

fn with_secret(
    scheme: u8,
    before: &str,
    place: &Place,
    (left, right): (&str, &str),
    host: u8,
    query: &[(Key, String)],
) -> String {
    let one = |among: &[&'static str], which: u8| among[usize::from(which) % among.len()];
    let (scheme, host) = (one(&SCHEMES, scheme), one(&HOSTS, host));
    // What is around it must not end it: an '@' ends a login, and in a query '&', '=', '#' and '@' have a meaning.
    let secret = format!("{left}{SECRET}{right}");
    let plain = |text: &str| text.replace(['@', '&', '=', '?', '#', ':', '/'], "");
    let mut pairs: Vec<_> = query
        .iter()
        .map(|(key, value)| match key {
            Key::Known(which) => format!("{}={value}", one(&KEYS, *which)),
            Key::Other(key) => format!("{key}={value}"),
        })
        .collect();
    let login = match place {
        Place::User => format!("{}@", plain(&secret)),
        Place::Password => format!("{}:{}@", plain(before), secret.replace('@', "")),
        Place::Query(which) => {
            let at = usize::from(*which) % (pairs.len() + 1);
            pairs.insert(at, format!("{}={}", one(&SECRET_KEYS, *which), plain(&secret)));
            String::new()
        }
    };
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    format!("{scheme}://{login}{host}/project/test{query}")
}

/// All that is ever shown of a URL: of the text, of the target, of the backend, and of every error.
fn shown(text: &str) -> String {
    let mut shown = vec![masked_url(text)];
    match text.parse::<Target>() {
        Err(error) => shown.push(all_of(&error)),
        Ok(target) => {
            read(&target);
            shown.extend([format!("{target}"), format!("{target:?}")]);
            shown.extend(target.service().err().map(|error| all_of(&error)));
        }
    }
    match registry(text) {
        Ok((_, service)) => shown.push(service.to_string()),
        Err(error) => shown.push(all_of(&error)),
    }
    match Dialer::new().builder(text) {
        Ok(builder) => shown.push(format!("{builder:?}")),
        Err(error) => shown.push(all_of(&error)),
    }
    shown.join("\n")
}

fn all_of(error: &Error) -> String {
    format!("{error} {error:?} {}", error.chain())
}

/// What is printed is read again as the same target, but for what is masked.
fn read(target: &Target) {
    let printed = target.to_string();
    let again: Target = printed.parse().unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.scheme(), target.scheme());
    assert_eq!((again.hosts(), again.path()), (target.hosts(), target.path()));
    assert_eq!(again.password().is_some(), target.password().is_some());
    assert!(again.password().is_none_or(|password| password == MASK));
    assert!(target.path().starts_with('/') && target.path().len() > 1);
    if target.password().is_some() {
        assert_eq!(again.user(), target.user());
    }
}
