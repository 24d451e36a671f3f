//! The one task that runs a channel.
//!
//! It takes resolver updates and connection events, and dials connections. It publishes what calls need to know as one
//! [`Published`] value behind an atomic pointer. Calls share nothing else with this task.

mod connect_order;
mod counts;
mod dialing;
mod oob_reports;
mod picker;
mod publication;
mod shared;
mod source;
mod state;
mod subchannel;
mod subchannels;
mod summary;
mod task;
mod waiting;

use std::sync::Arc;

use callboard_core::{Backoff, Balancer, ServiceName};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Duration;
use tracing::Instrument;

use self::task::Control;
use crate::config::ActiveConfig;
use crate::grpc::Defaults;
use crate::transport::{Connector, Settings};

pub(crate) use self::picker::{Chooser, Connections, Picking};
pub(crate) use self::publication::News;
pub(crate) use self::shared::Shared;
pub(crate) use self::source::{Set, Source, SourceStatus};
pub use self::state::EndpointStatus;
pub(crate) use self::state::{Published, Verdict};
pub(crate) use self::summary::{Standing, Summary};

/// The parameters of a channel's task.
pub(crate) struct Parts {
    /// The balancer to start with. The service config may change it.
    pub(crate) balancer: Arc<dyn Balancer>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) settings: Settings,
    pub(crate) backoff: Backoff,
    /// How many connections one endpoint may have.
    pub(crate) most_connections: usize,
    /// How long an extra connection may be idle.
    pub(crate) extra_idle: Duration,
    /// How many attempts to connect may run at the same time.
    pub(crate) max_dials: usize,
}

/// How many attempts to connect may run at the same time, by default.
pub(crate) const MAX_DIALS: usize = 100;

/// Starts a channel's task. It ends when the last handle to the returned value is dropped.
pub(crate) fn start(
    runtime: &Handle,
    service: ServiceName,
    defaults: Defaults,
    parts: Parts,
    config: ActiveConfig,
    source: Box<dyn Source>,
) -> Arc<Shared> {
    let span = tracing::debug_span!("channel", %service).or_current();
    let (alive, dropped) = oneshot::channel();
    let shared = Arc::new(Shared::new(runtime, service, defaults, &config, alive));
    let control = Control::new(parts, config, source, &shared);
    runtime.spawn(control.run(dropped).instrument(span));
    shared
}
