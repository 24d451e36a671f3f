//! What the agent answers, and what its refusals mean.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use bytes::Bytes;
use callboard_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use tokio_rustls::rustls;

/// The longest text of a refusal that is quoted.
const LONGEST_QUOTE: usize = 300;
/// What to do about an agent that grants no more connections.
const LIMIT: &str = "an agent grants one host so many connections as its limits.http_max_conns_per_client says, 200 if \
                     nothing is said: raise that, or let this host's processes take fewer by their setting connections";

/// An answer of the agent, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `X-Consul-Index`. Of no meaning in a refusal.
    pub(crate) index: Option<u64>,
    /// `X-Consul-ContentHash`, of what an agent says of its own entries.
    pub(crate) hash: Option<String>,
    /// Whether there is more which the token may not see. Not always said where there is.
    pub(crate) filtered: bool,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The answer, if it is a good one.
    pub(crate) fn good(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// Whether it is refused because Consul's servers have no leader.
    pub(crate) fn lacks_a_leader(&self) -> bool {
        const TEXT: &[u8] = b"No cluster leader";
        self.status == StatusCode::INTERNAL_SERVER_ERROR && self.body.windows(TEXT.len()).any(|part| part == TEXT)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the answer is not what Consul's agent answers").with_source(error)
        })
    }

    /// What the refusal means to the caller.
    pub(crate) fn refusal(&self) -> Error {
        let (kind, hint) = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                ErrorKind::Denied,
                " (the ACL token needs service:write to register, service:read and node:read to watch, key:read and \
                 key:write for configs)"
                    .to_owned(),
            ),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::Invalid, String::new()),
            StatusCode::TOO_MANY_REQUESTS if self.quote().contains("concurrent connections") => {
                (ErrorKind::Unavailable, format!(" ({LIMIT})"))
            }
            // It says so as an error of its own.
            StatusCode::INTERNAL_SERVER_ERROR if self.quote().contains("boolean expression") => {
                (ErrorKind::Invalid, " (the filter cannot be read)".to_owned())
            }
            _ => (ErrorKind::Unavailable, String::new()),
        };
        Error::new(kind, format!("the agent answers {}: {}{hint}", self.status, self.quote()))
    }

    /// The text of a refusal: one line, and not too long.
    fn quote(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line: String =
            text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_QUOTE).collect();
        if line.is_empty() { "no reason given".to_owned() } else { line }
    }
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
        (ErrorKind::Unavailable, "the agent has ended the connection by TLS".to_owned())
    } else {
        // It may have been stopped, or have too much to do: it says nothing when it closes.
        let message = format!("the agent has closed the connection without an answer (if it goes on: {LIMIT})");
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

/// Whether it is because nobody can be connected to, so that another request would fail in the same way.
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
            let body = Bytes::from(format!("why\n\x1b {}", "x".repeat(1000)));
            let answer = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                index: Some(1),
                hash: None,
                filtered: false,
                body,
            };
            let error = answer.good().unwrap_err();
            assert_eq!(error.kind(), kind, "{status}");
            let text = error.to_string();
            assert!(text.contains("why") && text.len() < 500 && !text.contains(char::is_control), "{text}");
        }
    }
}
