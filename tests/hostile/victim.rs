//! The client that is attacked: two channels on one thread.

use std::cell::RefCell;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use callboard::{Channel, ChannelBuilder, resolver};

use crate::common::{echo, request, within};
use crate::figures::Figures;
use crate::log;

/// How long a stretch of time is whose figures are said.
pub const STRETCH: Duration = Duration::from_millis(500);

/// The pause between two calls of a channel.
const PAUSE: Duration = Duration::from_millis(2);

/// The deadline of the attacked channel's calls. There are so many of them at once.
const DEADLINE: Duration = Duration::from_millis(200);
const CALLERS: usize = 4;

/// What has been measured in this stretch.
#[derive(Default)]
struct Measured {
    calm: Vec<Duration>,
    figures: Figures,
}

impl Measured {
    /// Notes a call of the attacked channel.
    fn attacked(&mut self, answered: bool, late: Duration) {
        self.figures.late = self.figures.late.max(late);
        self.figures.answered += u64::from(answered);
        self.figures.failed += u64::from(!answered);
    }
}

/// Says its figures, of the calm channel and of the one to the attacked service, until the test, which has started this process, closes its pipe or kills it.
pub fn run(root: &Path, attacked: &str, configure: impl Fn(ChannelBuilder) -> ChannelBuilder) {
    log::count();
    std::thread::spawn(|| {
        // Nothing comes; it ends when the test does.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measured = RefCell::default();
    runtime.block_on(async {
        let attacked = configure(builder(root, attacked)).build().unwrap();
        let calm = builder(root, "calm").build().unwrap();
        tokio::join!(
            call_calmly(&calm, &measured),
            futures_util::future::join_all((0..CALLERS).map(|_| call_the_attacked(&attacked, &measured))),
            say(&measured),
        );
    });
}

fn builder(root: &Path, service: &str) -> ChannelBuilder {
    let (resolver, service) = resolver(&format!("file://{}/project/{service}", root.display())).unwrap();
    Channel::builder(service).resolver(resolver)
}

async fn call_calmly(channel: &Channel, measured: &RefCell<Measured>) {
    let mut client = echo(channel);
    loop {
        let begun = Instant::now();
        let answer = client.unary(within(Duration::from_secs(20), request())).await;
        measured.borrow_mut().calm.push(begun.elapsed());
        measured.borrow_mut().figures.calm_failed += u64::from(answer.is_err());
        tokio::time::sleep(PAUSE).await;
    }
}

async fn call_the_attacked(channel: &Channel, measured: &RefCell<Measured>) {
    let mut client = echo(channel);
    loop {
        let begun = Instant::now();
        let answer = client.unary(within(DEADLINE, request())).await;
        let late = begun.elapsed().saturating_sub(DEADLINE);
        measured.borrow_mut().attacked(answer.is_ok(), late);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn say(measured: &RefCell<Measured>) {
    loop {
        tokio::time::sleep(STRETCH).await;
        let Measured { mut calm, mut figures } = measured.take();
        calm.sort_unstable();
        // A stretch in which no calm call ended is one in which the thread stood still.
        figures.p99 = calm.get(calm.len() * 99 / 100).copied().unwrap_or(STRETCH);
        figures.slowest = calm.last().copied().unwrap_or(STRETCH);
        figures.memory = memory();
        (figures.panics, figures.lines, figures.bytes) = log::counted();
        // A line of its own, whatever the test harness has said before.
        println!("\nsaid: {figures}");
    }
}

/// What this process holds in memory, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    held.trim().trim_end_matches(" kB").parse().unwrap()
}
