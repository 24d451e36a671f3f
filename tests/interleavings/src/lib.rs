//! The concurrent pieces of callboard, as loom runs them: in every order in which their threads could.
//!
//! The pieces are the product's own files, brought in by their paths. In this crate `std`, `tokio` and `arc_swap` are names
//! of the crate itself, so that `use std::sync::Mutex` in such a file gives it loom's: whatever those files take is here,
//! in modules of the same names. What they need of their neighbours stands beside them, as small as can be.
//!
//! Why, and what is not covered: docs/decisions/interleavings.md.
// The files have tests of their own, which are run where they stand: this library is empty where it would be one of tests.
#![cfg(not(test))]

extern crate self as arc_swap;
extern crate self as std;
extern crate self as tokio;
extern crate std as real_std;
extern crate tokio as real_tokio;

mod arc_swaps;
mod control;
mod endpoint;
mod executor;
pub mod models;
mod runtime;
mod sync;
mod task;
mod thread_number;
mod time;
mod transport;
#[path = "../../../core/src/turns.rs"]
pub mod turns;

use arc_swaps::{ArcSwap, Guard};
use control::{publication, waiting};
use real_std::{array, collections, fmt, marker, mem, pin};
