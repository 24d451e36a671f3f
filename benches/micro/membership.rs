//! What it takes a channel with 10,000 endpoints to follow a change: making a picker, folding a set, and the whole way
//! from what the registry says to what calls see. CPU time: everything is done by one thread, and nothing waits.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use callboard::balancer::{RoundRobin, Weighted};
use callboard::{
    Balancer, Call, Channel, ConnectivityState, Endpoint, Instance, Member, Members, Outcome, Pick, Picker, Snapshot,
    WatchSettings, watch,
};
use callboard_bench::{Silent, cpu, feed, instances, service};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const ENDPOINTS: usize = 10_000;

/// All on one thread, so that what is measured is the work and not how fast a thread wakes another.
fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Changes are passed on at once, however soon after one another.
fn at_once() -> WatchSettings {
    let mut settings = WatchSettings::default();
    settings.coalesce = Duration::ZERO;
    settings
}

/// A set of which one weight changes again and again.
struct Changing {
    instances: Vec<Arc<Instance>>,
    changes: usize,
}

impl Changing {
    fn new() -> Self {
        Self { instances: instances(ENDPOINTS).into_iter().map(Arc::new).collect(), changes: 0 }
    }

    /// The next set, as a backend has made it that keeps what it has heard: that is the backend's time.
    fn next(&mut self) -> Snapshot {
        self.changes += 1;
        let weight = self.weight();
        self.changed().set_weight(weight);
        Snapshot::new(self.instances.clone())
    }

    /// The one that has changed last.
    fn changed(&mut self) -> &mut Instance {
        let index = self.changes * 7_919 % ENDPOINTS;
        Arc::make_mut(&mut self.instances[index])
    }

    fn weight(&self) -> u32 {
        10 + (self.changes % 50) as u32
    }
}

/// Measures something that says itself how long it took.
fn bench(c: &mut Criterion, name: &str, mut once: impl FnMut() -> Duration) {
    let mut group = c.benchmark_group("membership");
    group.bench_function(name, |b| b.iter_custom(|count| (0..count).map(|_| once()).sum()));
    group.finish();
}

fn build(c: &mut Criterion) {
    let endpoints: Vec<_> = instances(ENDPOINTS).into_iter().map(Endpoint::new).collect();
    endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
    let members = Members::new(endpoints);
    let balancers: [Box<dyn Balancer>; 2] = [Box::new(RoundRobin::new()), Box::new(Weighted::new())];
    for balancer in balancers {
        let make = || {
            let begun = cpu::thread();
            black_box(balancer.picker(black_box(&members)));
            cpu::thread() - begun
        };
        bench(c, &format!("build-{}", balancer.name()), make);
    }
}

fn fold(c: &mut Criterion) {
    let (runtime, (registry, resolver), mut set) = (runtime(), feed(), Changing::new());
    let mut watcher = watch(std::sync::Arc::new(resolver), &service(), at_once());
    let mut change = || {
        let next = set.next();
        let begun = cpu::thread();
        registry.send(next).expect("the set is followed");
        runtime.block_on(watcher.changed());
        cpu::thread() - begun
    };
    change();
    bench(c, "fold", change);
}

/// A balancer that tells when calls have stopped using one of its pickers: the channel drops the old one when it has
/// published the new one.
#[derive(Debug)]
struct Telling {
    balancer: Weighted,
    retired: UnboundedSender<()>,
}

struct TellingPicker {
    picker: Box<dyn Picker>,
    retired: UnboundedSender<()>,
}

impl Balancer for Telling {
    fn name(&self) -> &str {
        self.balancer.name()
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(TellingPicker { picker: self.balancer.picker(members), retired: self.retired.clone() })
    }
}

impl Picker for TellingPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.picker.pick(call)
    }

    fn done(&self, picked: Member, outcome: &Outcome) {
        self.picker.done(picked, outcome);
    }
}

impl Drop for TellingPicker {
    fn drop(&mut self) {
        // Nobody listens any more when the bench is over.
        let _ = self.retired.send(());
    }
}

impl fmt::Debug for TellingPicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.picker.fmt(f)
    }
}

/// A channel whose endpoints are all connected, and what tells of its pickers.
fn connected(runtime: &Runtime, resolver: callboard_bench::Feed) -> (Channel, UnboundedReceiver<()>) {
    let (retired, retirements) = unbounded_channel();
    let connector = tower::service_fn(async |_| Ok::<_, std::io::Error>(Silent::default()));
    let channel = runtime.block_on(async {
        let builder = Channel::builder(service()).resolver(resolver).connector(connector).watch_settings(at_once());
        let channel = builder.balancer(Telling { balancer: Weighted::new(), retired }).build().expect("a channel");
        let ready = |channel: &Channel| {
            let endpoints = channel.endpoints();
            endpoints.iter().filter(|status| status.endpoint.state() == ConnectivityState::Ready).count()
        };
        while ready(&channel) < ENDPOINTS {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        channel
    });
    (channel, retirements)
}

fn publish(c: &mut Criterion) {
    let (runtime, (registry, resolver), mut set) = (runtime(), feed(), Changing::new());
    registry.send(set.next()).expect("the resolver is there");
    let (channel, mut retired) = connected(&runtime, resolver);
    while retired.try_recv().is_ok() {}
    let change = || {
        let next = set.next();
        let begun = cpu::thread();
        registry.send(next).expect("the set is followed");
        runtime.block_on(retired.recv()).expect("the channel is there");
        let took = cpu::thread() - begun;
        assert!(retired.try_recv().is_err(), "one change, one new picker");
        took
    };
    bench(c, "publish", change);
    let (weight, address) = (set.weight(), set.changed().address().clone());
    let mut shown = channel.endpoints().into_iter().map(|status| status.endpoint);
    let changed = shown.find(|endpoint| endpoint.instance().address() == &address).expect("still registered");
    assert_eq!(changed.weight(), weight, "the channel shows the last change");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = build, fold, publish
}
criterion_main!(benches);
