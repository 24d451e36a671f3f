//! The retry state of one call.

use std::time::Duration;

use callboard_core::{Address, Code};

use super::by_policy::{MOST_ATTEMPTS, RetryByPolicy};
use super::pushback::Pushback;
use crate::call::Idempotent;
use crate::config::Rules;
use crate::transport::Failure;

/// How often a call is sent again because its connection has ended in good order before the server processed it.
const MOST_OVERTAKEN: u32 = 4;

/// The retry state of a call that has failed at least once. Retries are permitted by gRPC's transparent retries (A6),
/// by the service's retry policy, and by the caller.
#[derive(Debug)]
pub(in crate::call) struct Retries {
    idempotent: bool,
    /// Whether a server has refused it unprocessed.
    refused: bool,
    /// How many connections have ended in good order before their server processed it.
    overtaken: u32,
    /// How many attempts have failed, without those that no server has processed.
    made: u32,
    /// Where attempts have failed. The next one prefers another endpoint.
    failed_at: Vec<Address>,
    retry: Option<RetryByPolicy>,
}

impl Retries {
    pub(in crate::call) fn new(idempotent: Option<&Idempotent>, rules: Option<&Rules>, path: &str) -> Self {
        let retry = rules.and_then(|rules| RetryByPolicy::of(rules, path));
        Self { idempotent: idempotent.is_some(), refused: false, overtaken: 0, made: 0, failed_at: Vec::new(), retry }
    }

    /// The number of the next attempt, from 1.
    pub(in crate::call) fn number(of: Option<&Self>) -> u32 {
        of.map_or(1, |retries| retries.made + 1)
    }

    /// The number of previous attempts to send to the server. None if there was none, or if no policy applies.
    pub(in crate::call) fn previous_attempts(of: Option<&Self>) -> Option<u32> {
        of.filter(|retries| retries.made > 0 && retries.retry.is_some()).map(|retries| retries.made)
    }

    /// The failed attempts, for a message about the next one. Empty if there was none.
    pub(in crate::call) fn report(of: Option<&Self>) -> String {
        match Self::number(of) - 1 {
            0 => String::new(),
            1 => "; after 1 failed attempt".to_owned(),
            made => format!("; after {made} failed attempts"),
        }
    }

    /// The addresses to avoid, if there is another endpoint.
    pub(in crate::call) fn failed_at(of: Option<&Self>) -> &[Address] {
        of.map_or(&[], |retries| &retries.failed_at)
    }

    /// How long to wait before the call is sent again after this failure at an endpoint. None if it is not sent again.
    /// `within` is whether the request is no larger than the retry buffer.
    pub(in crate::call) fn after_failure(&mut self, failure: &Failure, at: &Address, within: bool) -> Option<Duration> {
        match failure {
            // It was never sent: retried as often as the deadline permits.
            Failure::Unsent(_) => Some(Duration::ZERO),
            // The server has not processed it: retried once, and after that a failure like any other.
            Failure::Refused(_) if !std::mem::replace(&mut self.refused, true) => {
                self.failed_at.push(at.clone());
                Some(Duration::ZERO)
            }
            // The same, but without a fault, and the next attempt uses another connection. Servers that were started
            // together end their connections together, so once is not enough: docs/decisions/young-connections.md.
            Failure::Overtaken(_) if self.overtaken < MOST_OVERTAKEN => {
                self.overtaken += 1;
                Some(Duration::ZERO)
            }
            Failure::Refused(_) | Failure::Overtaken(_) => {
                self.after_status(Code::Unavailable, Pushback::Unsaid, at, within)
            }
            Failure::Unsendable(code, _) => self.after_status(*code, Pushback::Unsaid, at, within),
            Failure::Broken(code, _) => {
                let retried = self.after_status(*code, Pushback::Unsaid, at, within);
                // The connection was lost, and the server may have processed it. If the policy covers that, the policy
                // decides.
                let silent = self.retry.as_ref().is_none_or(|retry| !within || !retry.covers(*code));
                let lost = *code == Code::Unavailable && self.idempotent && silent;
                retried.or_else(|| (lost && self.made < MOST_ATTEMPTS).then_some(Duration::ZERO))
            }
            Failure::Body(_) => None,
        }
    }

    /// The same after the status of a response of headers alone.
    pub(in crate::call) fn after_status(
        &mut self,
        code: Code,
        pushback: Pushback,
        at: &Address,
        within: bool,
    ) -> Option<Duration> {
        self.failed_at.push(at.clone());
        self.counted(code, pushback, within)
    }

    /// The same if there is no endpoint to send it to.
    pub(in crate::call) fn after_no_endpoint(&mut self) -> Option<Duration> {
        self.after_local(Code::Unavailable, true)
    }

    /// The same after a failure that no endpoint has caused, so that none is avoided.
    pub(in crate::call) fn after_local(&mut self, code: Code, within: bool) -> Option<Duration> {
        self.counted(code, Pushback::Unsaid, within)
    }

    fn counted(&mut self, code: Code, pushback: Pushback, within: bool) -> Option<Duration> {
        self.made += 1;
        // A request that is too large for the buffer commits the call, so the policy does not count what follows.
        let retry = self.retry.as_mut().filter(|_| within)?;
        retry.after(code, pushback, self.made)
    }
}
