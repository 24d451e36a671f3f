//! Servers that fail calls on purpose and record the attempts, and configs with retry policies.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{ChannelBuilder, Registration};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use tonic::{Code, Request, Response, Status};

use super::Stage;
use super::scripted::Scripted;

/// What one attempt carried, and when it came.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub at: Instant,
    /// `grpc-previous-rpc-attempts`.
    pub previous: Option<String>,
    /// `grpc-timeout`.
    pub timeout: Option<Duration>,
}

/// The answers of a server, in turn. It succeeds after the last, and where the status is OK.
pub type Answers = Arc<Mutex<VecDeque<Status>>>;

/// A server of unary calls.
pub struct Refusing {
    id: String,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    /// The next answers.
    pub answers: Answers,
    server: Scripted,
    _registration: Registration,
}

impl Refusing {
    /// Answers with these statuses, one after the other, and then succeeds.
    pub async fn start(stage: &Stage, id: &str, statuses: impl IntoIterator<Item = Status>) -> Self {
        let answers: Answers = Arc::new(Mutex::new(statuses.into_iter().collect()));
        let attempts = Arc::<Mutex<Vec<Attempt>>>::default();
        let (next, notes, name) = (Arc::clone(&answers), Arc::clone(&attempts), id.to_owned());
        let server = Scripted::start(move |request| {
            notes.lock().unwrap().push(Attempt::of(&request));
            match next.lock().unwrap().pop_front() {
                Some(status) if status.code() != Code::Ok => Err(status),
                _ => Ok(Response::new(EchoResponse { payload: Vec::new(), server: name.clone() })),
            }
        })
        .await;
        let registration = stage.sign_in(id, server.address.try_into().unwrap(), 1).await;
        Self { id: id.to_owned(), attempts, answers, server, _registration: registration }
    }

    /// Never succeeds.
    pub async fn always(stage: &Stage, id: &str, status: Status) -> Self {
        Self::start(stage, id, std::iter::repeat_n(status, 1_000)).await
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }

    /// The values of `grpc-previous-rpc-attempts`; empty where there was none.
    pub fn previous(&self) -> Vec<String> {
        self.attempts().into_iter().map(|attempt| attempt.previous.unwrap_or_default()).collect()
    }

    /// The times between attempts.
    pub fn waits(&self) -> Vec<Duration> {
        self.attempts().windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }
}

impl Attempt {
    fn of(request: &Request<EchoRequest>) -> Self {
        let field = |name| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let timeout = field("grpc-timeout").map(|text| {
            let (digits, unit) = text.split_at(text.len() - 1);
            let nanos = match unit {
                "n" => 1,
                "u" => 1_000,
                "m" => 1_000_000,
                other => panic!("{other} is no unit for a test's timeout"),
            };
            Duration::from_nanos(digits.parse::<u64>().unwrap() * nanos)
        });
        Self { at: Instant::now(), previous: field("grpc-previous-rpc-attempts"), timeout }
    }
}

pub fn unavailable() -> Status {
    Status::unavailable("not now")
}

/// A status that says when to retry.
pub fn pushback(values: &[&str]) -> Status {
    let mut status = unavailable();
    for value in values {
        status.metadata_mut().append("grpc-retry-pushback-ms", value.parse().unwrap());
    }
    status
}

/// A retry policy.
#[derive(Clone)]
pub struct Policy {
    pub attempts: u32,
    pub initial: Duration,
    pub max: Duration,
    pub multiplier: f64,
    pub codes: &'static [&'static str],
}

/// The policy of most tests: the maximum of attempts, after very short waits.
pub const QUICK: Policy = Policy {
    attempts: 5,
    initial: Duration::from_millis(1),
    max: Duration::from_millis(10),
    multiplier: 2.0,
    codes: &["UNAVAILABLE"],
};

/// A policy with waits longer than any test takes.
pub const SLOW: Policy = Policy { initial: Duration::from_secs(300), max: Duration::from_secs(300), ..QUICK };

impl Policy {
    pub fn json(&self) -> String {
        let Self { attempts, initial, max, multiplier, codes } = self;
        format!(
            r#"{{"maxAttempts": {attempts}, "initialBackoff": "{}s", "maxBackoff": "{}s", "backoffMultiplier": {multiplier},
                "retryableStatusCodes": {codes:?}}}"#,
            initial.as_secs_f64(),
            max.as_secs_f64()
        )
    }

    /// A config with this policy for all methods.
    pub fn config(&self) -> String {
        self.config_with("{}", "")
    }

    /// A config with this policy for `name`, and with `rest` for the same methods.
    pub fn config_with(&self, name: &str, rest: &str) -> String {
        format!(r#"{{"methodConfig": [{{"name": [{name}], "retryPolicy": {}}}]{rest}}}"#, self.json())
    }
}

impl Stage {
    /// A builder of channels whose registry has this policy for all methods.
    pub async fn under(&self, policy: &Policy) -> ChannelBuilder {
        self.put_service_config(Some(&policy.config())).await;
        self.builder()
    }
}
