//! Callers that call as fast as they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard_bench::cpu;
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

use crate::allocations;
use crate::figures::Sample;

/// What a generated client accepts and several tasks can use.
pub(crate) trait Channel:
    GrpcService<
        Body,
        Future: Send,
        Error: Into<StdError>,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<C> Channel for C where
    C: GrpcService<
            Body,
            Future: Send,
            Error: Into<StdError>,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// One unary call with a payload of 4 bytes.
pub(crate) async fn call<C: Channel>(client: &mut EchoClient<C>) -> Result<(), Status> {
    let answer = client.unary(EchoRequest { payload: vec![1, 2, 3, 4], ..Default::default() }).await?;
    if answer.get_ref().payload == [1, 2, 3, 4] { Ok(()) } else { Err(Status::data_loss("not what was sent")) }
}

/// Calls by so many callers for so long, after one call by each that is not counted. Allocations are counted in a
/// window of their own beforehand, as counting them costs time.
pub(crate) async fn measure<C: Channel>(client: &EchoClient<C>, callers: usize, window: Duration) -> Sample {
    let counted = drive(client, callers, window / 4, true).await;
    let timed = drive(client, callers, window, false).await;
    Sample {
        allocations_per_call: counted.allocations_per_call,
        failed: counted.failed + timed.failed,
        failure: counted.failure.or(timed.failure),
        ..timed
    }
}

async fn drive<C: Channel>(client: &EchoClient<C>, callers: usize, window: Duration, count: bool) -> Sample {
    let gate = Arc::new(Barrier::new(callers + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> =
        (0..callers).map(|_| tokio::spawn(caller(client.clone(), Arc::clone(&gate), Arc::clone(&stop)))).collect();
    gate.wait().await;
    allocations::count(count);
    let (begun, cpu_before, made_before) = (Instant::now(), cpu::process(), allocations::made());
    gate.wait().await;
    tokio::time::sleep(window).await;
    stop.store(true, Ordering::Relaxed);
    let results = join(tasks).await;
    let (elapsed, cpu_used, made) = (begun.elapsed(), cpu::process() - cpu_before, allocations::made() - made_before);
    allocations::count(false);
    summarize(results, elapsed, cpu_used, made)
}

/// What a caller has done: the time of each call in nanoseconds, and what ended it early.
struct Called {
    latencies: Vec<u32>,
    failure: Option<Status>,
}

async fn caller<C: Channel>(mut client: EchoClient<C>, gate: Arc<Barrier>, stop: Arc<AtomicBool>) -> Called {
    // Rarely outgrown, so that it hardly counts.
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut failure = call(&mut client).await.err();
    gate.wait().await;
    gate.wait().await;
    while failure.is_none() && !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        failure = call(&mut client).await.err();
        latencies.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Called { latencies, failure }
}

async fn join(tasks: Vec<JoinHandle<Called>>) -> Vec<Called> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.expect("a caller does not panic"));
    }
    results
}

fn summarize(results: Vec<Called>, elapsed: Duration, cpu: Duration, made: u64) -> Sample {
    let failures: Vec<_> = results.iter().filter_map(|called| called.failure.as_ref()).collect();
    let (failed, failure) = (failures.len(), failures.first().map(ToString::to_string));
    let mut latencies: Vec<u32> = results.into_iter().flat_map(|called| called.latencies).collect();
    latencies.sort_unstable();
    let calls = latencies.len().max(1) as f64;
    let quantile = |share: f64| latencies.get((share * calls) as usize).map_or(0.0, |nanos| f64::from(*nanos));
    Sample {
        cpu_us_per_call: cpu.as_secs_f64() * 1e6 / calls,
        calls_per_second: calls / elapsed.as_secs_f64(),
        p50_us: quantile(0.50) / 1e3,
        p99_us: quantile(0.99) / 1e3,
        allocations_per_call: made as f64 / calls,
        failed: failed as u64,
        failure,
    }
}
