//! TLS, if it is compiled in.
//!
//! It is a feature of this crate, against the rule that features are the facade's alone, because it reaches beyond it:
//! the client library's TLS compiles `aws-lc-rs` into the whole program. Where that meets `ring`, rustls does not know
//! which of the two other parts of the program want, and panics there unless the program says so. Who does not ask for
//! TLS to ZooKeeper must not meet that.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod compiled;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{Certificates, check};
#[cfg(feature = "tls")]
pub(crate) use compiled::{Certificates, check};
