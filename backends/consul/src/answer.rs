//! What the agent answers, and what its refusals mean.

use bytes::Bytes;
use callboard_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

/// The longest text of a refusal that is quoted.
const LONGEST_QUOTE: usize = 300;

/// An answer of the agent, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `X-Consul-Index`. Of no meaning in a refusal.
    pub(crate) index: Option<u64>,
    /// `X-Consul-ContentHash`, of what an agent says of its own entries.
    pub(crate) hash: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The answer, if it is a good one.
    pub(crate) fn good(self) -> Result<Self> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
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
                 key:write for configs)",
            ),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => (ErrorKind::Invalid, ""),
            // It says so as an error of its own.
            StatusCode::INTERNAL_SERVER_ERROR if self.quote().contains("boolean expression") => {
                (ErrorKind::Invalid, " (the filter cannot be read)")
            }
            _ => (ErrorKind::Unavailable, ""),
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
        (ErrorKind::Timeout, "the agent does not answer in time")
    } else if error.is_connect() {
        (ErrorKind::Unavailable, "the agent cannot be reached")
    } else {
        (ErrorKind::Unavailable, "the connection to the agent has failed")
    };
    Error::new(kind, message).with_source(error)
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
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), index: Some(1), hash: None, body };
            let error = answer.good().unwrap_err();
            assert_eq!(error.kind(), kind, "{status}");
            let text = error.to_string();
            assert!(text.contains("why") && text.len() < 500 && !text.contains(char::is_control), "{text}");
        }
    }
}
