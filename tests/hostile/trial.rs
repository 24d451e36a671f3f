//! One attack, from the calm before it to the recovery.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard::ChannelBuilder;
use tokio::sync::mpsc;

use crate::common::in_time;
use crate::figures::{Figures, together};
use crate::scene::Scene;
use crate::victim::{self, STRETCH};

/// Says to a process that it is the victim, and where the registry is.
pub const ROLE: &str = "CALLBOARD_HOSTILE_VICTIM";

/// Says which service it calls beside the calm one: the one that is attacked, or one without servers.
const SERVICE: &str = "CALLBOARD_HOSTILE_SERVICE";
const ATTACKED: &str = "hostile";
const NOBODY: &str = "nobody";

/// How often a trial is made before its bounds count as missed: whatever else runs on a machine makes figures worse, never
/// better.
const TRIES: usize = 3;

/// One trial at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

/// What an attack may cost.
pub struct Trial {
    /// The test's own full name, such as `frames::a_flood`: the victim is a process that runs this one test.
    pub name: &'static str,
    /// How the attacked channel is made.
    pub configure: fn(ChannelBuilder) -> ChannelBuilder,
    /// How long the attack lasts.
    pub lasting: Duration,
    /// By how many MiB the victim may grow.
    pub growth: u64,
    /// How many lines the victim may log, from INFO up.
    pub lines: u64,
}

impl Trial {
    /// For two seconds, against a channel as it is by default.
    pub fn of(name: &'static str) -> Self {
        Self { name, configure: |builder| builder, lasting: Duration::from_secs(2), growth: 32, lines: 50 }
    }

    /// Makes the trial: calm, then `attack`, then recovery. What `attack` returns is dropped when the attack is over.
    ///
    /// # Panics
    /// If what is said in the documentation of this test binary is missed in each of three tries.
    #[allow(clippy::needless_pass_by_value, reason = "a closure reads better without an `&` before it")]
    pub fn run<A>(self, attack: impl AsyncFn(&Scene) -> A) {
        if let Some(root) = std::env::var_os(ROLE) {
            let service = std::env::var(SERVICE).unwrap();
            return victim::run(&PathBuf::from(root), &service, self.configure);
        }
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut missed = Vec::new();
        for _ in 0..TRIES {
            let course = runtime.block_on(self.course(&attack));
            println!("{}: {course}", self.name);
            missed = self.missed(&course);
            if missed.is_empty() {
                return;
            }
        }
        panic!("{}: {}", self.name, missed.join(", "));
    }

    async fn course<A>(&self, attack: impl AsyncFn(&Scene) -> A) -> Course {
        let scene = Scene::new();
        let calm_service = "project/calm".parse().unwrap();
        let _calm = scene.good(&calm_service).await;
        let mut victim = Victim::start(self.name, ATTACKED, &scene);
        let mut witness = Victim::start(self.name, NOBODY, &scene);
        // What is slow only the first time is over after one stretch in which the calm channel has worked.
        while in_time(victim.next()).await.p99 >= STRETCH {}
        let calm = victim.stretches(2).await;
        let attackers = attack(&scene).await;
        let stretches = (self.lasting.as_millis() / STRETCH.as_millis()) as usize;
        let (attacked, beside) = tokio::join!(victim.stretches(stretches), witness.stretches(stretches));
        drop(attackers);
        in_time(scene.clear()).await;
        let _good = scene.good(&scene.service).await;
        let recovered = in_time(async {
            loop {
                let figures = victim.next().await;
                if figures.answered > 0 && figures.failed == 0 {
                    return figures;
                }
            }
        });
        Course { calm, beside, attacked, recovered: recovered.await }
    }

    /// Which bounds were missed, and by what.
    fn missed(&self, Course { calm, beside, attacked, recovered }: &Course) -> Vec<String> {
        let failed = attacked.calm_failed + recovered.calm_failed;
        let growth = attacked.memory.max(recovered.memory).saturating_sub(calm.memory) / 1024;
        let (lines, bytes) = (recovered.lines - calm.lines, recovered.bytes - calm.bytes);
        let held = [
            (
                attacked.p99 <= 5 * calm.p99.max(beside.p99).max(LEAST_P99),
                format!("the neighbour's p99: {:?}", attacked.p99),
            ),
            (failed == 0, format!("the neighbour's failed calls: {failed}")),
            (
                attacked.late <= MOST_LATE + beside.slowest,
                format!("a call outlived its deadline by {:?}", attacked.late),
            ),
            (growth <= self.growth, format!("memory: {growth} MiB more")),
            (lines <= self.lines && bytes <= 512 * self.lines, format!("the log: {lines} lines, {bytes} bytes")),
            (recovered.panics == 0, format!("panics: {}", recovered.panics)),
        ];
        held.into_iter().filter_map(|(held, what)| (!held).then_some(what)).collect()
    }
}

/// A p99 below this is taken for this: so much comes and goes on any machine.
const LEAST_P99: Duration = Duration::from_millis(4);

/// How long a call may outlive its deadline.
const MOST_LATE: Duration = Duration::from_millis(50);

/// What was measured.
struct Course {
    calm: Figures,
    /// Those of a process that nobody attacks, at the same time: what the machine has to do with it.
    beside: Figures,
    attacked: Figures,
    recovered: Figures,
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calm, beside, attacked, recovered } = self;
        write!(f, "the neighbour's p99 {:?}, {:?} when calm, {:?} elsewhere", attacked.p99, calm.p99, beside.p99)?;
        write!(f, "; {} calls answered, {} failed, late by {:?}", attacked.answered, attacked.failed, attacked.late)?;
        let (lines, bytes) = (recovered.lines - calm.lines, recovered.bytes - calm.bytes);
        write!(f, "; memory {} KiB, {} before; {lines} lines, {bytes} bytes in the log", attacked.memory, calm.memory)
    }
}

/// The victim's process. It is killed when this is dropped.
struct Victim {
    process: Child,
    said: mpsc::UnboundedReceiver<Figures>,
}

impl Victim {
    fn start(test: &str, service: &str, scene: &Scene) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, scene.root())
            .env(SERVICE, service)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (says, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // It fails when nobody listens any more: the victim is about to be killed.
                if let Some(figures) = line.strip_prefix("said: ") {
                    let _ = says.send(figures.parse().unwrap());
                }
            }
        });
        Self { process, said }
    }

    async fn next(&mut self) -> Figures {
        self.said.recv().await.expect("the victim lives, and is the test of the trial's name")
    }

    /// The figures of so many stretches from now on.
    async fn stretches(&mut self, count: usize) -> Figures {
        while self.said.try_recv().is_ok() {}
        let mut stretches = Vec::new();
        for _ in 0..count.max(1) {
            stretches.push(in_time(self.next()).await);
        }
        together(&stretches)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended by itself, which has failed the test then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
