//! How much each backend can take, by what it reports of its load.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callboard::balancer::{WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::{Address, Channel, Instance, InstanceKind, Load, Resolver, Result, ServiceName, Snapshots};
use futures_util::StreamExt;

/// A report that is older does not count: gRPC's number.
const EXPIRY: Duration = Duration::from_secs(180);

/// What the weights in the registry are multiplied by, so that load can change small ones too.
const FINE: f64 = 100.0;

/// How many steps there are from one share to 2.7 times that share. Fewer make lists change less often.
const STEPS: f64 = 5.0;

/// A channel that makes no calls. It is there for what backends report on its connections, every second if they will.
pub(crate) fn listen(resolver: Arc<dyn Resolver>, service: &ServiceName) -> Result<Channel> {
    let mut settings = WeightedRoundRobinSettings::default();
    (settings.enable_oob_load_report, settings.oob_reporting_period) = (true, Duration::from_secs(1));
    let balancer = WeightedRoundRobin::with_settings(settings)?;
    Channel::builder(service.clone()).resolver(Backends(resolver)).balancer(balancer).service_config(false).build()
}

/// Without the balancers, of which this is one: it would ask itself.
#[derive(Debug)]
struct Backends(Arc<dyn Resolver>);

impl Resolver for Backends {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        let backends = |snapshot: Result<_>| {
            snapshot.map(|mut snapshot: callboard::Snapshot| {
                snapshot.instances.retain(|instance| instance.kind() == InstanceKind::Backend);
                snapshot
            })
        };
        self.0.watch(service).map(backends).boxed()
    }
}

/// The backends, each with the weight that the registry and its load give it together. One that reports nothing counts as
/// the mean of those that do.
pub(crate) fn weighed(instances: &[Arc<Instance>], channel: &Channel) -> Vec<Instance> {
    let loads: HashMap<Address, Load> = channel
        .endpoints()
        .into_iter()
        .filter_map(|status| Some((status.endpoint.instance().address().clone(), status.endpoint.load()?)))
        .collect();
    let backends: Vec<_> = instances.iter().filter(|instance| instance.kind() == InstanceKind::Backend).collect();
    let capacities: Vec<_> = backends.iter().map(|backend| loads.get(backend.address()).and_then(capacity)).collect();
    let known: Vec<_> = capacities.iter().flatten().collect();
    let mean = known.iter().copied().sum::<f64>() / known.len().max(1) as f64;
    let relative = |capacity: Option<f64>| capacity.map_or(1.0, |capacity| in_steps(capacity / mean));
    let weigh = |(backend, capacity): (&&Arc<Instance>, Option<f64>)| {
        let weight = f64::from(backend.weight()) * FINE * relative(capacity);
        Instance::clone(backend).with_weight(weight.ceil() as u32)
    };
    backends.iter().zip(capacities).map(weigh).collect()
}

/// What it could serve, by a report that is not too old.
fn capacity(load: &Load) -> Option<f64> {
    load.report().capacity(1.0).filter(|_| load.at.elapsed() < EXPIRY)
}

/// Rounded, within a tenth and ten times: who gets no calls could not show that it has become better.
fn in_steps(relative: f64) -> f64 {
    ((relative.clamp(0.1, 10.0).ln() * STEPS).round() / STEPS).exp()
}
