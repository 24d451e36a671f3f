//! What must hold of the pieces, however their threads take turns.
//!
//! Each function runs one scene in every order, with every value that a load may see, and panics if there is one in which it
//! goes wrong.

pub mod expiry;
pub mod in_flight;
pub mod places;
pub mod publication;
pub mod throttle;
pub mod turns;
pub mod waiting;

use loom::model::Builder;
use real_std::env;
use real_std::sync::Arc;
use real_std::sync::atomic::{AtomicUsize, Ordering};
use tracing_subscriber::EnvFilter;

/// Runs the scene in every order in which a thread is interrupted, where it could have gone on, at most so often, and says
/// how many there are. What is in the environment goes before: `LOOM_MAX_PREEMPTIONS`, and what helps to replay one order.
fn check(preemptions: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 20_000;
    // The real ones, which are no part of the scene.
    let orders = Arc::new(AtomicUsize::new(0));
    let begun = Arc::clone(&orders);
    let check = || {
        builder.check(move || {
            begun.fetch_add(1, Ordering::Relaxed);
            scene();
        });
    };
    match env::var_os("LOOM_LOG") {
        None => check(),
        Some(_) => {
            let filter = EnvFilter::from_env("LOOM_LOG");
            let log = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().without_time().finish();
            tracing::subscriber::with_default(log, check);
        }
    }
    println!("{} orders", orders.load(Ordering::Relaxed));
}
