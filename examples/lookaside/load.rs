//! How much each backend can take, by its load reports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callboard::balancer::{WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::{Address, Channel, Instance, InstanceKind, Load, Resolver, Result, ServiceName, Snapshots};
use futures_util::StreamExt;

/// An older report does not count: gRPC's value.
const EXPIRY: Duration = Duration::from_secs(180);

/// The factor of the weights in the registry, so that the load can change small ones too.
const FINE: f64 = 100.0;

/// The number of steps from one share to 2.7 times that share. With fewer, lists change less often.
const STEPS: f64 = 5.0;

/// A channel that makes no calls. It receives the load reports of backends, every second if they agree.
pub(crate) fn listen(resolver: Arc<dyn Resolver>, service: &ServiceName) -> Result<Channel> {
    let mut settings = WeightedRoundRobinSettings::default();
    (settings.enable_oob_load_report, settings.oob_reporting_period) = (true, Duration::from_secs(1));
    let balancer = WeightedRoundRobin::with_settings(settings)?;
    Channel::builder(service.clone()).resolver(Backends(resolver)).balancer(balancer).service_config(false).build()
}

/// The service without its balancers: otherwise this balancer would ask itself.
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

/// The backends, each with the weight from the registry and its load. One that reports nothing counts as the mean of
/// those that do.
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

/// What a backend could serve, by a report that is not too old.
fn capacity(load: &Load) -> Option<f64> {
    load.report().capacity(1.0).filter(|_| load.at.elapsed() < EXPIRY)
}

/// Rounds a relative weight, and keeps it between 0.1 and 10: a backend without calls could not show that it has
/// recovered.
fn in_steps(relative: f64) -> f64 {
    ((relative.clamp(0.1, 10.0).ln() * STEPS).round() / STEPS).exp()
}
