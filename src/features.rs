//! The backends and balancers that are compiled in. This is the only file besides `lib.rs` that depends on features.

use std::sync::Arc;

use callboard_core::{Balancer, Error, ErrorKind, Registry, Resolver, Result, Target, TargetOptions};

use crate::config::{Balancers, Known, MakeBalancer};

/// Both sides of a backend. They share its client.
pub(crate) trait Both: Registry + Resolver {}
impl<B: Registry + Resolver> Both for B {}

/// Makes the client of a registry from a URL.
pub(crate) type MakeBackend = dyn Fn(&Target, &mut TargetOptions<'_>) -> Result<Arc<dyn Both>> + Send + Sync;

/// The default balancer: round robin. An error if it is not compiled in.
pub(crate) fn default_balancer() -> Result<Arc<dyn Balancer>> {
    #[cfg(feature = "round-robin")]
    return Ok(Arc::new(callboard_round_robin::RoundRobin::new()));
    #[cfg(not(feature = "round-robin"))]
    return Err(Error::new(
        ErrorKind::Unsupported,
        "no balancer was given, and the default needs the feature \"round-robin\" of callboard",
    ));
}

/// The backends that a URL's scheme can name.
pub(crate) fn backends() -> [Known<MakeBackend>; 5] {
    [
        Known { name: "consul", feature: "consul", make: consul() },
        Known { name: "etcd", feature: "etcd", make: etcd() },
        Known { name: "file", feature: "file", make: file() },
        Known { name: "memory", feature: "memory", make: cfg!(feature = "memory").then(|| Arc::new(no_board) as _) },
        Known { name: "zookeeper", feature: "zookeeper", make: zookeeper() },
    ]
}

/// A registry in memory is a value of the program, so no URL can name it.
fn no_board(_: &Target, _: &mut TargetOptions<'_>) -> Result<Arc<dyn Both>> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "a memory registry is a value in this process: pass it to a Dialer with `.resolver(\"memory\", memory)`, and to \
         `register`",
    ))
}

#[cfg(feature = "consul")]
fn consul() -> Option<Arc<MakeBackend>> {
    Some(Arc::new(|target, options| Ok(Arc::new(callboard_consul::Consul::from_target(target, options)?))))
}

#[cfg(not(feature = "consul"))]
fn consul() -> Option<Arc<MakeBackend>> {
    None
}

#[cfg(feature = "etcd")]
fn etcd() -> Option<Arc<MakeBackend>> {
    Some(Arc::new(|target, options| Ok(Arc::new(callboard_etcd::Etcd::from_target(target, options)?))))
}

#[cfg(not(feature = "etcd"))]
fn etcd() -> Option<Arc<MakeBackend>> {
    None
}

#[cfg(feature = "file")]
fn file() -> Option<Arc<MakeBackend>> {
    Some(Arc::new(|target, options| Ok(Arc::new(callboard_file::FileRegistry::from_target(target, options)?))))
}

#[cfg(not(feature = "file"))]
fn file() -> Option<Arc<MakeBackend>> {
    None
}

#[cfg(feature = "zookeeper")]
fn zookeeper() -> Option<Arc<MakeBackend>> {
    Some(Arc::new(|target, options| Ok(Arc::new(callboard_zookeeper::ZooKeeper::from_target(target, options)?))))
}

#[cfg(not(feature = "zookeeper"))]
fn zookeeper() -> Option<Arc<MakeBackend>> {
    None
}

/// The balancers that a URL or a service's config can name.
pub(crate) fn balancers() -> Balancers {
    Balancers::new([
        Known { name: "pick_first", feature: "pick-first", make: pick_first() },
        Known { name: "round_robin", feature: "round-robin", make: round_robin() },
        Known { name: "weighted", feature: "weighted", make: weighted() },
        Known { name: "weighted_round_robin", feature: "weighted", make: weighted_round_robin() },
    ])
}

#[cfg(feature = "pick-first")]
fn pick_first() -> Option<Arc<MakeBalancer>> {
    Some(Arc::new(|settings| Ok(Arc::new(callboard_pick_first::PickFirst::from_settings(settings)?))))
}

#[cfg(not(feature = "pick-first"))]
fn pick_first() -> Option<Arc<MakeBalancer>> {
    None
}

#[cfg(feature = "round-robin")]
fn round_robin() -> Option<Arc<MakeBalancer>> {
    Some(Arc::new(|_| Ok(Arc::new(callboard_round_robin::RoundRobin::new()))))
}

#[cfg(not(feature = "round-robin"))]
fn round_robin() -> Option<Arc<MakeBalancer>> {
    None
}

#[cfg(feature = "weighted")]
fn weighted() -> Option<Arc<MakeBalancer>> {
    Some(Arc::new(|_| Ok(Arc::new(callboard_weighted::Weighted::new()))))
}

#[cfg(not(feature = "weighted"))]
fn weighted() -> Option<Arc<MakeBalancer>> {
    None
}

#[cfg(feature = "weighted")]
fn weighted_round_robin() -> Option<Arc<MakeBalancer>> {
    Some(Arc::new(|settings| {
        let settings = settings.read()?;
        Ok(Arc::new(callboard_weighted::WeightedRoundRobin::with_settings(settings)?))
    }))
}

#[cfg(not(feature = "weighted"))]
fn weighted_round_robin() -> Option<Arc<MakeBalancer>> {
    None
}
