//! What the pieces take from `std::task` and `tokio::task`.

pub(crate) use real_std::task::{Context, Poll, Wake, Waker};

/// There is no runtime that takes turns here.
pub(crate) fn unconstrained<F>(future: F) -> F {
    future
}
