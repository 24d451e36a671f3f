//! Registries and servers that mean harm: what they cost a client, and those that it serves beside them.
//!
//! Each test is a [`Trial`]. The client is a process of its own, the [`victim`], so that its memory can be told from
//! everybody else's. It has one thread, on which two channels live: one to the service `project/hostile`, which the test
//! attacks, and one to `project/calm`, whose server is well-behaved. First nothing happens, then the attack runs for some
//! seconds, then the attackers are gone and a good server is in their place. What is asserted of each:
//!
//! - the victim's memory grows by no more than a bound;
//! - the calm channel's p99 stays within five times its calm value, or that of a like process which nobody attacks at the
//!   same time, as a machine may have other things to do; and none of its calls fails;
//! - no call outlives its deadline by more than 50 ms, beyond the slowest call of that other process;
//! - nothing panics, and the log does not grow with the attack;
//! - the attacked channel answers again as soon as the good server is there.
//!
//! ```text
//! cargo test --test hostile -- --nocapture     # prints what each attack cost
//! ```
#![cfg(target_os = "linux")]
// What the tests share fails them, as they do themselves, and is for the other files of this binary.
#![allow(unreachable_pub, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod control;
mod figures;
mod frames;
mod log;
mod records;
mod scene;
mod servers;
mod trial;
mod victim;
