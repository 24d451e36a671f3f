//! TLS, if it is compiled in.
//!
//! It is a feature of this crate, against the rule that only the facade has features, because it affects the whole
//! program: the client library's TLS compiles `aws-lc-rs` into it. Where `ring` is compiled in too, rustls does not
//! know which of the two other parts of the program want, and panics there unless the program chooses one. Programs
//! that do not use TLS to ZooKeeper must not have that problem.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod compiled;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{Certificates, check};
#[cfg(feature = "tls")]
pub(crate) use compiled::{Certificates, check};
