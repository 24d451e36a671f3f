//! When a call has to be over.

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

/// Does something until the deadline, if there is one. None if that comes first.
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

/// The end of a call's time. Small: every call has room for one.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// What ends then, whoever polls.
    expiry: Arc<Expiry>,
    /// One for the whole call, made when it has to wait for the first time. It tells the expiry, which tells whoever polls.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// The smaller of what the request asks for in `grpc-timeout` and what holds for its method, from when the call was
    /// begun: now, unless it is said. None if there is neither, or if it is too far away to be a time.
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

    /// What is left, as the header that tells the server.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (GRPC_TIMEOUT, print(self.left()))
    }

    /// What is left.
    pub(crate) fn left(&self) -> Duration {
        self.expiry.at().saturating_duration_since(Instant::now())
    }

    /// What ends when it comes, whoever polls.
    pub(crate) fn expiry(&self) -> &Arc<Expiry> {
        &self.expiry
    }

    /// Resolves when it comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.expiry.register(cx.waker());
        self.arm()
    }

    /// Has what it ends ended when it comes, even if it is never polled. Says whether it has come.
    pub(crate) fn arm(&mut self) -> Poll<()> {
        self.expiry.poll(&mut self.timer)
    }

    /// Whether it has come.
    pub(crate) fn is_over(&self) -> bool {
        self.expiry.is_over()
    }
}

/// The status of a call that has run out of time; `progress` says how far it was.
pub(crate) fn exceeded(deadline: Option<&Deadline>, progress: &str) -> Status {
    // Without a deadline nothing is exceeded; nobody asks then.
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

/// In the finest unit that has room in eight digits, rounded down: the server shall not think that it has longer.
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
