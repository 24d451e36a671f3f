//! What the suite needs to know of a backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Instance, Registry, Resolver, ServiceName};

use crate::Server;

/// A backend under test, with a registry's server of its own that can be broken.
///
/// # Contract
/// - **Made fresh for each property**, with nothing registered. Whatever was started for it ends when it is dropped.
/// - A method that breaks something returns once it is broken; one that mends returns once the server answers again,
///   or, of a replicated registry, once it has a leader.
/// - A method that cannot do its work panics and says why: a fault that did not happen proves nothing.
///
/// A registry that lives in the process (memory) plays these faults; one with a server suffers them.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// A registry as another process would have it: it shares the server with those made before, and nothing else.
    /// Made without I/O, whether or not the server is up.
    fn registry(&self) -> Arc<dyn Registry>;

    /// A registry for a process that holds hundreds of instances. By default as any other; where each instance's time
    /// to live costs a request of its own, with as long a one as such a process would choose.
    fn registry_for_many(&self) -> Arc<dyn Registry> {
        self.registry()
    }

    /// A resolver as another process would have it, likewise.
    fn resolver(&self) -> Arc<dyn Resolver>;

    /// A record that the registry does not take, such as one that is too large. By default one with 4 MiB of metadata.
    fn refused(&self, instance: Instance) -> Instance {
        instance.with_metadata("note", "x".repeat(4 << 20))
    }

    /// How long things may take.
    fn bounds(&self) -> Bounds;

    /// Whether a server that was killed has its data again when it is restarted.
    fn keeps_data(&self) -> bool {
        true
    }

    /// Whether a claim ends when the registry is out of reach for long, as by a time to live. Not where it is a lock
    /// that its owner holds whether or not anybody can look.
    fn claims_expire(&self) -> bool {
        true
    }

    /// The server that [`kill`](Self::kill), [`restart`](Self::restart), [`pause`](Self::pause),
    /// [`resume`](Self::resume) and [`wipe`](Self::wipe) break and mend. A harness without a server of that kind
    /// implements those five itself, and not this.
    fn server(&self) -> &dyn Server {
        panic!("{self:?} names no server, and does not implement what breaks and mends it");
    }

    /// Ends the server at once, as `kill -9` does. Its data stays, if it keeps any.
    async fn kill(&self) {
        self.server().kill().await;
    }

    /// Starts a killed server again, on its data.
    async fn restart(&self) {
        self.server().restart().await;
    }

    /// Stops the server without ending it: connections stay open, and there are no answers.
    async fn pause(&self) {
        self.server().pause().await;
    }

    /// Lets a paused server go on.
    async fn resume(&self) {
        self.server().resume().await;
    }

    /// Ends the server and starts it again without its data.
    async fn wipe(&self) {
        self.server().wipe().await;
    }

    /// Puts a record there that no callboard could have written, where instances of this service are looked for.
    async fn put_garbage(&self, service: &ServiceName);

    /// Puts a record there that says this, under the key of this id, whichever id it has in it, in the place of what is
    /// there: as whoever may write to the registry could. Nothing ends it.
    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance);

    /// Puts these bytes where the service's config stands, or removes it, as a person with the registry's own tool
    /// would.
    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>);

    /// Removes the entry of this instance, past its owner, as a person with the registry's own tool would.
    async fn delete(&self, service: &ServiceName, instance: &Instance);

    /// Ends what keeps this instance's entry alive (a lease, a session, a check), past its owner.
    async fn end_lease(&self, service: &ServiceName, instance: &Instance);

    /// How many watches the server serves at this moment. A stopgap for a registry that cannot count them is to count
    /// the connections.
    async fn watches(&self) -> usize;
}

/// How long things may take with a backend, on a busy machine.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the death of an instance's process, while the registry is well, until the entry is gone: the time to live
    /// and what the registry adds to it.
    pub expiry: Duration,
    /// From the end of a fault until everybody is on the board and in every watcher's set again.
    pub heal: Duration,
    /// Until a registry that does not answer is noticed by everybody: the longest of the backend's timeouts.
    pub notice: Duration,
}
