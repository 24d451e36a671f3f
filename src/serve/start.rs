//! Starts a server.

use std::sync::{Arc, OnceLock};

use callboard_core::{BoxError, Instance, Registry, Result, register};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::address_first::{AddressFirst, identity};
use super::advertise::{Reach, reach};
use super::advertised::noted;
use super::listener::{Bound, Listener};
use super::serving::Serving;
use super::setup::Serve;
use super::shutdown_signal::Shutdown;
use super::shutdown_steps::WayOut;
use super::signals::Stops;

impl Serve {
    /// [Starts](Self::start) the server and returns when it [has ended](Serving::ended).
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and of [`Serving::ended`].
    ///
    /// # Cancel safety
    /// Not cancel-safe: if it is dropped before it resolves, the server ends at once, as [`Serving::ended`] says.
    pub async fn run<L, S, E>(self, listener: L, server: impl FnOnce(L, Shutdown) -> S) -> Result<()>
    where
        L: Listener,
        S: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.start(listener, server)?.ended().await
    }

    /// Starts the server and registers the instance. It does not wait until the instance is registered or its address
    /// is known.
    ///
    /// `server` gets the listener, and a future that resolves when the server has to shut down gracefully. It returns
    /// the future that serves, which is spawned as a task, within the current tracing span.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid) if there is no address to advertise, whatever the registry's
    /// names resolve to, or if the id is invalid. The system's error if the listener has no address, or if the process
    /// cannot listen for signals. Nothing has been started then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start<L, S, E>(self, listener: L, server: impl FnOnce(L, Shutdown) -> S) -> Result<Serving>
    where
        L: Listener,
        S: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        // This comes first: process 1 loses a signal for which it does not listen.
        let stops = Stops::new(self.signals, self.later_signal, self.shutdown_signal)?;
        let bound = Bound::of(&listener)?;
        let reach = match &self.address {
            Some(address) => Ok(Reach::At(noted(address.clone(), &bound, "Serve::advertise"))),
            None => reach(&bound, &self.place),
        };
        let reach = reach.map_err(|error| error.for_service(&self.service))?;
        // An attempt to register has to find the address first, so finding it gets half of the time.
        let reach = reach.within(self.registration.attempt_timeout / 2);
        let (leaving, left) = Shutdown::new();
        let entry = Entry::new(self.registry, self.id, self.change, reach, &bound, left)?;

        let (shut_down, shutdown) = self.shutdown;
        let serving = server(listener, shutdown);
        if shut_down.receiver_count() == 0 {
            tracing::warn!(
                "the server has dropped its `Shutdown`, so it does not learn when to shut down, and calls in flight will be cut \
                 off: give it to tonic's `serve_with_incoming_shutdown`, or to what is like it"
            );
        }
        let mut task = JoinSet::new();
        task.spawn(async { serving.await.map_err(Into::into) }.in_current_span());
        tracing::info!(service = %self.service, instance = entry.instance.id(), %bound, "serving");
        let registration = register(entry.registry, &self.service, entry.instance, self.registration);
        let way_out = WayOut {
            server: task,
            shut_down,
            stops,
            state: registration.watch_state(),
            not_serving: self.not_serving,
            leaving,
            deregister_timeout: self.deregister_timeout,
            deregister_delay: self.deregister_delay,
            drain_timeout: self.drain_timeout,
        };
        Ok(Serving::new(entry.named, registration, way_out))
    }
}

/// The instance to register, and the registry for it.
struct Entry {
    registry: Arc<dyn Registry>,
    /// The instance as the registration knows it.
    instance: Instance,
    /// The instance as it is registered, once its address is known.
    named: Arc<OnceLock<Instance>>,
}

impl Entry {
    fn new(
        registry: Arc<dyn Registry>,
        id: Option<String>,
        change: impl FnOnce(Instance) -> Instance,
        reach: Reach,
        bound: &Bound,
        leaving: Shutdown,
    ) -> Result<Self> {
        let complete = |named: Instance| change(named.clone()).with_name_of(&named);
        match reach {
            Reach::At(address) => {
                let instance = complete(identity(id.as_deref(), address)?);
                Ok(Self { registry, named: Arc::new(instance.clone().into()), instance })
            }
            Reach::Along(way) => {
                // The address is marked as unknown. The bound address identifies the server in the log.
                let known = id.clone().unwrap_or_else(|| bound.to_string());
                let instance = complete(identity(Some(&known), way.unknown()?)?);
                let named = Arc::new(OnceLock::new());
                let registry = AddressFirst { registry, way, id, leaving, named: Arc::clone(&named) };
                Ok(Self { registry: Arc::new(registry), instance, named })
            }
        }
    }
}
