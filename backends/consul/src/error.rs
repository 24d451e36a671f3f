//! What the agent's refusals mean, and requests that got no answer.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use callboard_core::{Error, ErrorKind, ServiceName};
use reqwest::StatusCode;
use tokio_rustls::rustls;

/// How errors and logs name this backend.
pub(crate) const BACKEND: &str = "consul";

/// The longest text of a refusal that is quoted.
const LONGEST_QUOTE: usize = 300;
/// What to do about an agent that grants no more connections.
const LIMIT: &str = "an agent accepts as many connections from one host as its limits.http_max_conns_per_client says, 200 \
                     by default: raise that, or lower the setting connections of this host's processes";

/// Adds to an error where it happened.
pub(crate) fn at(service: &ServiceName) -> impl Fn(Error) -> Error + '_ {
    move |error| error.in_backend(BACKEND).for_service(service)
}

/// What a refusal of the agent means to the caller.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let text = quote(body);
    let (kind, hint) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            ErrorKind::Denied,
            " (the ACL token needs service:write to register, service:read and node:read to watch, key:read and \
                 key:write for configs)"
                .to_owned(),
        ),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::Invalid, String::new()),
        StatusCode::TOO_MANY_REQUESTS if text.contains("concurrent connections") => {
            (ErrorKind::Unavailable, format!(" ({LIMIT})"))
        }
        // Consul answers a filter that it cannot read as if it had failed itself.
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("boolean expression") => {
            (ErrorKind::Invalid, " (the filter cannot be read)".to_owned())
        }
        _ => (ErrorKind::Unavailable, String::new()),
    };
    Error::new(kind, format!("the agent answers {status}: {text}{hint}"))
}

/// The text of a refusal: one line, and not too long.
fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_QUOTE).collect();
    if line.is_empty() { "no reason given".to_owned() } else { line }
}

/// A request that got no answer.
pub(crate) fn unanswered(error: reqwest::Error) -> Error {
    // The address and the service are in the error already, and the URL would repeat them.
    let error = error.without_url();
    let (kind, message) = if error.is_timeout() {
        (ErrorKind::Timeout, "the agent does not answer in time".to_owned())
    } else if error.is_connect() {
        (ErrorKind::Unavailable, "the agent cannot be reached".to_owned())
    } else if is_of_tls(&error) {
        // The agent looks at the client's certificate when the client has already taken the agent's.
        (ErrorKind::Unavailable, "the agent has closed the connection with a TLS alert".to_owned())
    } else {
        // It may have been stopped, or be at its limit: it does not say why it closes a connection.
        let message = format!("the agent has closed the connection without an answer (if this continues: {LIMIT})");
        (ErrorKind::Unavailable, message)
    };
    Error::new(kind, message).with_source(error)
}

fn is_of_tls(error: &reqwest::Error) -> bool {
    let mut sources = successors(error.source(), |error: &&(dyn StdError + 'static)| (*error).source());
    sources.any(|source| {
        let inner = source.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source.is::<rustls::Error>() || inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
    })
}

/// Whether no connection can be made, so that another request would fail in the same way.
pub(crate) fn is_unreachable(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<reqwest::Error>());
    source.is_some_and(reqwest::Error::is_connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_can_be_done() {
        for (status, kind) in [
            (403, ErrorKind::Denied),
            (401, ErrorKind::Denied),
            (400, ErrorKind::Invalid),
            (413, ErrorKind::Invalid),
            (404, ErrorKind::Unavailable),
            (429, ErrorKind::Unavailable),
            (500, ErrorKind::Unavailable),
        ] {
            let body = format!("why\n\x1b {}", "x".repeat(1000));
            let error = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.kind(), kind, "{status}");
            let text = error.to_string();
            assert!(text.contains("why") && text.len() < 500 && !text.contains(char::is_control), "{text}");
        }
    }
}
