//! The deadline of a call.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::fields::field;
use crate::transport::{Expiry, Runtime};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Polls a future until the deadline, if there is one. None if the deadline passes first.
pub(crate) fn until<T>(
    deadline: &mut Option<Deadline>,
    mut work: impl Future<Output = T> + Unpin,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |cx| match (Pin::new(&mut work).poll(cx), &mut *deadline) {
        (Poll::Ready(done), _) => Poll::Ready(Some(done)),
        (Poll::Pending, Some(deadline)) => deadline.poll(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    })
}

/// The deadline of a call. Small, because every call holds one.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// What is released at the deadline, even if the call is not polled.
    expiry: Arc<Expiry>,
    /// One timer for the whole call, made when it has to wait for the first time. It wakes the expiry, which wakes the
    /// call's task.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// The smaller of the request's `grpc-timeout` and the timeout of its method, counted from the start of the call:
    /// now, unless `begun` is given. None if there is neither, or if it is too far away for an `Instant`.
    pub(crate) fn of<B>(
        request: &http::Request<B>,
        default: Option<Duration>,
        begun: Option<Instant>,
        runtime: &Arc<Runtime>,
    ) -> Result<Option<Self>, Status> {
        let asked = match field(request.headers(), &GRPC_TIMEOUT) {
            None => None,
            Some(value) => Some(parse(value).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "grpc-timeout {value:?}: expected up to 8 digits and one of H, M, S, m, u, n"
                ))
            })?),
        };
        let Some(given) = asked.into_iter().chain(default).min() else { return Ok(None) };
        let at = begun.unwrap_or_else(Instant::now).checked_add(given);
        Ok(at.map(|at| Self { expiry: Expiry::new(at, given, runtime), timer: None }))
    }

    /// The time that is left, as the header for the server.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (GRPC_TIMEOUT, print(self.left()))
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.expiry.at().saturating_duration_since(Instant::now())
    }

    /// What is released at the deadline, even if the call is not polled.
    pub(crate) fn expiry(&self) -> &Arc<Expiry> {
        &self.expiry
    }

    /// Resolves at the deadline.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.expiry.register(cx.waker());
        self.arm()
    }

    /// Arms the timer, so that the expiry ends at the deadline even if this is never polled again. Ready if the
    /// deadline has passed.
    pub(crate) fn arm(&mut self) -> Poll<()> {
        self.expiry.poll(&mut self.timer)
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.expiry.is_over()
    }
}

/// The status of a call that has exceeded its deadline; `progress` says how far it was.
pub(crate) fn exceeded(deadline: Option<&Deadline>, progress: &str) -> Status {
    // Not called without a deadline.
    let given = deadline.map(|deadline| deadline.expiry.given()).unwrap_or_default();
    Status::deadline_exceeded(format!("deadline of {given:?} exceeded {progress}"))
}

fn parse(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// In the finest unit that fits into eight digits, rounded down, so that the server's deadline is not later.
fn print(left: Duration) -> HeaderValue {
    const ROOM: u128 = 100_000_000;
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
        (u128::from(left.as_secs() / 60), 'M'),
    ];
    let hours = (u128::from(left.as_secs() / 3600).min(ROOM - 1), 'H');
    let (count, unit) = units.into_iter().find(|(count, _)| *count < ROOM).unwrap_or(hours);
    HeaderValue::try_from(format!("{count}{unit}")).expect("digits and a letter are a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_timeouts_are_refused() {
        for text in ["", "S", "1", "123456789S", "-1S", "1s", "1 S", "1.5S"] {
            assert_eq!(parse(&HeaderValue::from_str(text).expect("a header value")), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_never_more_than_what_is_left_and_hardly_less(nanos in 0u64..) {
            let left = Duration::from_nanos(nanos);
            let told = parse(&print(left)).expect("printed form");
            prop_assert!(told <= left);
            prop_assert!(left - told <= left / 1_000_000 + Duration::from_nanos(1), "{:?} of {:?}", told, left);
        }
    }
}
