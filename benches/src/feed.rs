//! A registry that costs nothing.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use callboard::{Resolver, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A resolver that says what is sent to it, whatever the service. It can be watched once; later watches stay silent.
pub struct Feed(Mutex<Option<UnboundedReceiver<Snapshot>>>);

/// Makes a resolver, and the sender of what it says.
pub fn feed() -> (UnboundedSender<Snapshot>, Feed) {
    let (sender, receiver) = unbounded_channel();
    (sender, Feed(Mutex::new(Some(receiver))))
}

impl Resolver for Feed {
    fn watch(&self, _: &ServiceName) -> Snapshots {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(mut said) => stream::poll_fn(move |cx| said.poll_recv(cx).map(|set| set.map(Ok))).boxed(),
            None => stream::pending().boxed(),
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed(..)")
    }
}
