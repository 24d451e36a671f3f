//! What one pick takes, by the number of endpoints and of threads that pick at once: CPU time of the thread, in which
//! waiting for another one's cache line counts and waiting for a processor does not.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use callboard::balancer::{RoundRobin, Weighted, WeightedRoundRobin};
use callboard::{Balancer, Call, ConnectivityState, Endpoint, Members, Pick, Picker};
use callboard_bench::cpu;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SIZES: [usize; 4] = [1, 10, 1_000, 10_000];

/// So many picks by one thread.
fn picks(picker: &dyn Picker, count: u64) -> Duration {
    let (headers, extensions) = Default::default();
    let call = Call::new("/callboard.echo.v1.Echo/Unary", &headers, &extensions);
    let begun = cpu::thread();
    for _ in 0..count {
        // As a call does: only the member goes on.
        if let Pick::To(member) = picker.pick(&call) {
            black_box(member);
        }
    }
    cpu::thread() - begun
}

/// So many picks by each of two threads at once: the time of the slower one.
fn picks_by_two(picker: &dyn Picker, count: u64) -> Duration {
    let start = Barrier::new(2);
    let each = || {
        start.wait();
        picks(picker, count)
    };
    thread::scope(|scope| {
        let other = scope.spawn(each);
        let own = each();
        own.max(other.join().expect("picking does not panic"))
    })
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let balancers: [Box<dyn Balancer>; 3] =
        [Box::new(RoundRobin::new()), Box::new(Weighted::new()), Box::new(WeightedRoundRobin::new())];
    for balancer in balancers {
        for size in SIZES {
            let endpoints: Vec<_> = callboard_bench::instances(size).into_iter().map(Endpoint::new).collect();
            endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
            let picker = balancer.picker(&Members::new(endpoints));
            group.bench_function(BenchmarkId::new(format!("{}-1", balancer.name()), size), |b| {
                b.iter_custom(|count| picks(&*picker, count));
            });
            group.bench_function(BenchmarkId::new(format!("{}-2", balancer.name()), size), |b| {
                b.iter_custom(|count| picks_by_two(&*picker, count));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = pick
}
criterion_main!(benches);
