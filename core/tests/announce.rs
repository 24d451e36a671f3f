//! `announce` against the memory backend, whole and broken.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{
    AnnounceSettings, Announcement, AnnouncementState, Error, ErrorKind, Incarnation, Instance, Lease, Registry,
    Resolver, Result, Service, announce,
};
use callboard_memory::Memory;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn service() -> Service {
    "project/test".parse().unwrap()
}

fn instance() -> Instance {
    let address = "127.0.0.1:1".parse().unwrap();
    Instance::new("a", address).unwrap().incarnation(Incarnation::from_micros(5))
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "broken on purpose")
}

/// What is on the board.
fn board(memory: &Memory) -> Vec<Instance> {
    let snapshot = memory.watch(&service()).next().now_or_never().unwrap().unwrap().unwrap();
    snapshot.instances.iter().map(|instance| (**instance).clone()).collect()
}

/// Waits until the announcement is not on the board, or has left for good.
async fn off_board(announcement: &Announcement) -> AnnouncementState {
    let mut state = announcement.watch();
    let off = state.wait_for(|state| !matches!(state, AnnouncementState::OnBoard { .. }));
    timeout(HOUR, off).await.expect("it notices").unwrap().clone()
}

/// Leaves. It always ends, whatever the registry does.
async fn leave(announcement: Announcement) -> Result<()> {
    timeout(HOUR, announcement.leave()).await.expect("leaving ends")
}

/// Lets every task go as far as it can. Only idle tasks let a paused clock advance.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Counts claims: attempts to register in flight, and leases.
#[derive(Debug, Default)]
struct Counted {
    memory: Memory,
    /// How long an attempt to register takes, in milliseconds, from and to.
    takes: Range<u64>,
    attempts: AtomicUsize,
    updates: Arc<AtomicUsize>,
    claims: Arc<AtomicUsize>,
    most_claims: AtomicUsize,
}

#[derive(Debug)]
struct Claim(Arc<AtomicUsize>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug)]
struct CountedLease {
    inner: Box<dyn Lease>,
    updates: Arc<AtomicUsize>,
    _claim: Claim,
}

#[async_trait]
impl Registry for Counted {
    async fn register(&self, service: &Service, instance: &Instance) -> Result<Box<dyn Lease>> {
        self.attempts.fetch_add(1, Relaxed);
        self.most_claims.fetch_max(self.claims.fetch_add(1, Relaxed) + 1, Relaxed);
        let claim = Claim(Arc::clone(&self.claims));
        for _ in 0..2 {
            if !self.takes.is_empty() {
                sleep(Duration::from_millis(fastrand::u64(self.takes.clone()))).await;
            }
        }
        let inner = self.memory.register(service, instance).await?;
        Ok(Box::new(CountedLease { inner, updates: Arc::clone(&self.updates), _claim: claim }))
    }
}

#[async_trait]
impl Lease for CountedLease {
    async fn lost(&mut self) -> Error {
        self.inner.lost().await
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.updates.fetch_add(1, Relaxed);
        self.inner.update(instance).await
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.inner.revoke().await
    }
}

/// An instance that is announced on a registry of its own.
fn announced() -> (Memory, Arc<Counted>, Announcement) {
    announced_on(Counted::default())
}

fn announced_on(registry: Counted) -> (Memory, Arc<Counted>, Announcement) {
    let (memory, registry) = (registry.memory.clone(), Arc::new(registry));
    let announcement = announce(registry.clone(), &service(), instance(), AnnounceSettings::default());
    (memory, registry, announcement)
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_on_the_board_until_it_leaves() {
    let (memory, registry, announcement) = announced();
    assert!(matches!(announcement.state(), AnnouncementState::SigningIn { failures: 0, error: None, .. }));
    announcement.on_board(SECOND).await.unwrap();
    assert!(matches!(announcement.state(), AnnouncementState::OnBoard { .. }));
    sleep(HOUR).await;
    assert_eq!(board(&memory), [instance()]);
    let state = announcement.watch();
    leave(announcement).await.unwrap();
    assert!(board(&memory).is_empty());
    assert!(matches!(*state.borrow(), AnnouncementState::Left { error: None, .. }));
    assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_a_hundred_times_is_announced_again_each_time_and_never_twice_at_once() {
    fastrand::seed(7);
    // Two sleeps of up to 6 s each: some attempts are cut by their bound of 10 s, at any point.
    let (memory, registry, announcement) = announced_on(Counted { takes: 0..6_000, ..Counted::default() });
    for _ in 0..100 {
        announcement.on_board(HOUR).await.unwrap();
        assert_eq!(board(&memory).len(), 1);
        sleep(Duration::from_millis(fastrand::u64(0..20_000))).await;
        memory.put(&service(), "a", None);
        let AnnouncementState::Lost { error, .. } = off_board(&announcement).await else { panic!("not lost") };
        assert_eq!(error.kind(), ErrorKind::Lost);
    }
    announcement.on_board(HOUR).await.unwrap();
    assert!(registry.attempts.load(Relaxed) > 101, "some attempts are cut");
    assert_eq!(registry.most_claims.load(Relaxed), 1);
    leave(announcement).await.unwrap();
    assert_eq!((registry.claims.load(Relaxed), alive_tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_during_a_retry_is_gone_for_good() {
    fastrand::seed(7);
    for _ in 0..50 {
        let (memory, registry, announcement) = announced_on(Counted { takes: 0..3_000, ..Counted::default() });
        announcement.on_board(HOUR).await.unwrap();
        memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
        memory.put(&service(), "a", None);
        off_board(&announcement).await;
        sleep(Duration::from_millis(fastrand::u64(0..20_000))).await;
        leave(announcement).await.unwrap();
        let attempts = registry.attempts.load(Relaxed);
        memory.faults(|faults| faults.down = None);
        sleep(HOUR).await;
        assert!(board(&memory).is_empty());
        assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (attempts, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_registers_after_the_owner_has_left_is_revoked() {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    let leave = tokio::spawn(leave(announcement));
    settle().await;
    assert!(!leave.is_finished());
    memory.faults(|faults| faults.hang = false);
    leave.await.unwrap().unwrap();
    assert_eq!((board(&memory).len(), registry.attempts.load(Relaxed), registry.claims.load(Relaxed)), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_takes_no_longer_than_the_attempt_in_flight() {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    let start = Instant::now();
    leave(announcement).await.unwrap();
    assert!((9 * SECOND..11 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    memory.faults(|faults| faults.hang = false);
    sleep(HOUR).await;
    assert_eq!((board(&memory).len(), registry.attempts.load(Relaxed), alive_tasks()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_the_next_attempt() {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    settle().await;
    let start = Instant::now();
    leave(announcement).await.unwrap();
    assert_eq!((start.elapsed(), registry.attempts.load(Relaxed)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_leaves_before_the_first_attempt_is_never_announced() {
    let (_memory, registry, announcement) = announced();
    leave(announcement).await.unwrap();
    assert_eq!(registry.attempts.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn leave_says_so_if_the_entry_could_not_be_removed() {
    let (memory, _registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    let state = announcement.watch();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    assert_eq!(leave(announcement).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(matches!(&*state.borrow(), AnnouncementState::Left { error: Some(_), .. }));

    let (memory, _registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    memory.faults(|faults| faults.hang = true);
    let start = Instant::now();
    let error = leave(announcement).await.unwrap_err();
    assert_eq!((error.kind(), error.service()), (ErrorKind::Timeout, Some(&service())));
    assert!(start.elapsed() < 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_takes_the_instance_off_the_board_and_ends_the_task() {
    let (memory, registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    let mut state = announcement.watch();
    drop(announcement);
    state.wait_for(|state| matches!(state, AnnouncementState::Left { .. })).await.unwrap();
    settle().await;
    assert_eq!((board(&memory).len(), registry.claims.load(Relaxed), alive_tasks()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_is_not_waited_for_goes_on() {
    let (memory, _registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    memory.faults(|faults| faults.hang = true);
    assert!(announcement.leave().now_or_never().is_none());
    memory.faults(|faults| faults.hang = false);
    settle().await;
    assert_eq!((board(&memory).len(), alive_tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_a_change_without_a_gap_and_the_latest_of_many_wins() {
    let (memory, registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    let mut watch = memory.watch(&service());
    for weight in 1..=100 {
        announcement.update(|instance| instance.weight = weight);
    }
    announcement.update(|instance| instance.zone = Some("eu-1".into()));
    loop {
        let instances = watch.next().await.unwrap().unwrap().instances;
        assert_eq!(instances.len(), 1);
        if *instances[0] == instance().weight(100).zone("eu-1") {
            break;
        }
    }
    announcement.update(|instance| instance.weight = 100);
    settle().await;
    assert_eq!((registry.attempts.load(Relaxed), registry.updates.load(Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_update_cannot_change_which_instance_it_is() {
    let (memory, registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    announcement.update(|changed| {
        *changed = Instance::new("other", "127.0.0.1:2".parse().unwrap()).unwrap().metadata("version", "2");
    });
    settle().await;
    assert_eq!(board(&memory), [instance().metadata("version", "2")]);
    assert_eq!(registry.attempts.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_panics_changes_nothing() {
    let (memory, _registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        announcement.update(|instance| {
            instance.weight = 9;
            panic!("on purpose");
        });
    }));
    assert!(panicked.is_err());
    announcement.update(|instance| instance.zone = Some("eu-1".into()));
    settle().await;
    assert_eq!(board(&memory), [instance().zone("eu-1")]);
}

#[tokio::test(start_paused = true)]
async fn an_update_made_during_an_outage_is_part_of_the_next_attempt() {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    sleep(60 * SECOND).await;
    announcement.update(|instance| instance.weight = 7);
    memory.faults(|faults| faults.down = None);
    announcement.on_board(10 * SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance().weight(7)]);
    settle().await;
    assert_eq!(registry.updates.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_update_made_while_registering_is_published_afterwards() {
    let (memory, _registry, announcement) = announced();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    announcement.update(|instance| instance.weight = 7);
    memory.faults(|faults| faults.hang = false);
    settle().await;
    assert_eq!(board(&memory), [instance().weight(7)]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_update_fails_is_registered_anew_as_it_is_wished() {
    let (memory, registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    memory.faults(|faults| faults.hang = true);
    announcement.update(|instance| instance.weight = 7);
    let AnnouncementState::Lost { error, .. } = off_board(&announcement).await else { panic!("not lost") };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(board(&memory).is_empty(), "the lease is dropped");
    memory.faults(|faults| faults.hang = false);
    announcement.on_board(HOUR).await.unwrap();
    assert_eq!(board(&memory), [instance().weight(7)]);
    assert_eq!(registry.most_claims.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_that_is_there_ends_it() {
    let memory = Memory::default();
    let newer = instance().incarnation(Incarnation::from_micros(6));
    let _newer = memory.register(&service(), &newer).await.unwrap();
    let (memory, registry, announcement) = announced_on(Counted { memory, ..Counted::default() });
    assert_eq!(announcement.on_board(HOUR).await.unwrap_err().kind(), ErrorKind::Conflict);
    sleep(HOUR).await;
    assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (1, 0));
    assert_eq!(leave(announcement).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(board(&memory), [newer]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_that_comes_ends_it() {
    let (memory, registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    let newer = instance().incarnation(Incarnation::from_micros(6));
    let _newer = memory.register(&service(), &newer).await.unwrap();
    let AnnouncementState::Left { error: Some(error), .. } = off_board(&announcement).await else { panic!("not left") };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    sleep(HOUR).await;
    assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (1, 0));
    drop(announcement);
    assert_eq!(board(&memory), [newer]);
}

#[tokio::test(start_paused = true)]
async fn on_board_gives_the_last_error_when_its_time_is_over() {
    let (memory, _registry, announcement) = announced();
    memory.faults(|faults| faults.hang = true);
    let start = Instant::now();
    assert_eq!(announcement.on_board(SECOND).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < 2 * SECOND);
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    memory.faults(|faults| faults.hang = false);
    assert_eq!(announcement.on_board(SECOND).await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(matches!(announcement.state(), AnnouncementState::SigningIn { failures: 1, error: Some(_), .. }));
    memory.faults(|faults| faults.down = None);
    announcement.on_board(10 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_lost_the_state_keeps_since_when_and_shows_the_latest_error() {
    let (memory, _registry, announcement) = announced();
    announcement.on_board(SECOND).await.unwrap();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    memory.put(&service(), "a", None);
    let lost_at = Instant::now();
    sleep(60 * SECOND).await;
    let AnnouncementState::Lost { since, error, .. } = announcement.state() else { panic!("not lost") };
    assert_eq!((since, error.kind()), (lost_at, ErrorKind::Unavailable));
}

/// How often a registry that answers with this error is asked within ten minutes.
async fn attempts_in_ten_minutes(kind: ErrorKind) -> usize {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.down = Some(error(kind)));
    sleep(600 * SECOND).await;
    drop(announcement);
    registry.attempts.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn attempts_never_end_and_never_come_fast() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Denied, ErrorKind::Invalid] {
        // Waits of 1 s to 3 s, after a few shorter ones.
        let attempts = attempts_in_ten_minutes(kind).await;
        assert!((200..=610).contains(&attempts), "{kind:?}: {attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_time_does_not_cure_is_not_retried_soon() {
    let (memory, registry, announcement) = announced();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    sleep(Duration::from_millis(900)).await;
    assert_eq!(registry.attempts.load(Relaxed), 1);
    memory.faults(|faults| faults.down = None);
    announcement.on_board(10 * SECOND).await.unwrap();
}

/// Loses the lease each time as soon as it is on the board, or after a while.
async fn losses(number: usize, after: Duration) -> Duration {
    let (memory, _registry, announcement) = announced();
    let mut off = Duration::ZERO;
    for _ in 0..number {
        let start = Instant::now();
        announcement.on_board(HOUR).await.unwrap();
        off += start.elapsed();
        sleep(after).await;
        memory.put(&service(), "a", None);
        off_board(&announcement).await;
    }
    off
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_right_away_each_time_does_not_spin() {
    let off = losses(50, Duration::ZERO).await;
    assert!(off > 50 * SECOND, "{off:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_now_and_then_is_announced_again_soon() {
    let off = losses(50, 8 * SECOND).await;
    assert!(off < 10 * SECOND, "{off:?}");
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl Registry for Panics {
    async fn register(&self, _: &Service, _: &Instance) -> Result<Box<dyn Lease>> {
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_does_not_leave_a_false_state_behind() {
    let announcement = announce(Arc::new(Panics), &service(), instance(), AnnounceSettings::default());
    assert_eq!(announcement.on_board(HOUR).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(leave(announcement).await.unwrap_err().kind(), ErrorKind::Closed);
}
