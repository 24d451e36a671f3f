//! `register` against the memory backend, whole and broken.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{
    Error, ErrorKind, Incarnation, Instance, Lease, Registration, RegistrationSettings, RegistrationState, Registry,
    Resolver, Result, ServiceName, register,
};
use callboard_memory::Memory;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn instance() -> Instance {
    let address = "127.0.0.1:1".parse().unwrap();
    Instance::new("a", address).unwrap().with_incarnation(Incarnation::from_micros(5))
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "broken on purpose")
}

/// What is on the board.
fn board(memory: &Memory) -> Vec<Instance> {
    let snapshot = memory.watch(&service()).next().now_or_never().unwrap().unwrap().unwrap();
    snapshot.instances.iter().map(|instance| (**instance).clone()).collect()
}

/// Waits until the registration is not on the board, or has left for good.
async fn off_board(registration: &Registration) -> RegistrationState {
    let mut state = registration.watch_state();
    let off = state.wait_for(|state| !matches!(state, RegistrationState::Registered { .. }));
    timeout(HOUR, off).await.expect("it notices").unwrap().clone()
}

/// Leaves. It always ends, whatever the registry does.
async fn leave(registration: Registration) -> Result<()> {
    timeout(HOUR, registration.deregister()).await.expect("leaving ends")
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
    /// A weight that it does not take.
    refuses: Option<u32>,
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
    refuses: Option<u32>,
    _claim: Claim,
}

fn refused(instance: &Instance, weight: Option<u32>) -> Result<()> {
    if weight == Some(instance.weight()) { Err(error(ErrorKind::Invalid)) } else { Ok(()) }
}

#[async_trait]
impl Registry for Counted {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        self.attempts.fetch_add(1, Relaxed);
        self.most_claims.fetch_max(self.claims.fetch_add(1, Relaxed) + 1, Relaxed);
        let claim = Claim(Arc::clone(&self.claims));
        for _ in 0..2 {
            if !self.takes.is_empty() {
                sleep(Duration::from_millis(fastrand::u64(self.takes.clone()))).await;
            }
        }
        refused(instance, self.refuses)?;
        let inner = self.memory.register(service, instance).await?;
        let (updates, refuses) = (Arc::clone(&self.updates), self.refuses);
        Ok(Box::new(CountedLease { inner, updates, refuses, _claim: claim }))
    }
}

#[async_trait]
impl Lease for CountedLease {
    async fn lost(&mut self) -> Error {
        self.inner.lost().await
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.updates.fetch_add(1, Relaxed);
        refused(instance, self.refuses)?;
        self.inner.update(instance).await
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.inner.revoke().await
    }
}

/// An instance that is registered on a registry of its own.
fn registered() -> (Memory, Arc<Counted>, Registration) {
    registered_on(Counted::default())
}

fn registered_on(registry: Counted) -> (Memory, Arc<Counted>, Registration) {
    let (memory, registry) = (registry.memory.clone(), Arc::new(registry));
    let registration = register(registry.clone(), &service(), instance(), RegistrationSettings::default());
    (memory, registry, registration)
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_on_the_board_until_it_leaves() {
    let (memory, registry, registration) = registered();
    assert!(matches!(registration.state(), RegistrationState::Registering { failures: 0, error: None, .. }));
    registration.wait_registered(SECOND).await.unwrap();
    assert!(matches!(registration.state(), RegistrationState::Registered { .. }));
    sleep(HOUR).await;
    assert_eq!(board(&memory), [instance()]);
    let state = registration.watch_state();
    leave(registration).await.unwrap();
    assert!(board(&memory).is_empty());
    assert!(matches!(*state.borrow(), RegistrationState::Deregistered { error: None, .. }));
    assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_a_hundred_times_is_announced_again_each_time_and_never_twice_at_once() {
    fastrand::seed(7);
    // Two sleeps of up to 6 s each: some attempts are cut by their bound of 10 s, at any point.
    let (memory, registry, registration) = registered_on(Counted { takes: 0..6_000, ..Counted::default() });
    for _ in 0..100 {
        registration.wait_registered(HOUR).await.unwrap();
        assert_eq!(board(&memory).len(), 1);
        sleep(Duration::from_millis(fastrand::u64(0..20_000))).await;
        memory.put(&service(), "a", None);
        let RegistrationState::Lost { error, .. } = off_board(&registration).await else { panic!("not lost") };
        assert_eq!(error.kind(), ErrorKind::Lost);
    }
    registration.wait_registered(HOUR).await.unwrap();
    assert!(registry.attempts.load(Relaxed) > 101, "some attempts are cut");
    assert_eq!(registry.most_claims.load(Relaxed), 1);
    leave(registration).await.unwrap();
    assert_eq!((registry.claims.load(Relaxed), alive_tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_during_a_retry_is_gone_for_good() {
    fastrand::seed(7);
    for _ in 0..50 {
        let (memory, registry, registration) = registered_on(Counted { takes: 0..3_000, ..Counted::default() });
        registration.wait_registered(HOUR).await.unwrap();
        memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
        memory.put(&service(), "a", None);
        off_board(&registration).await;
        sleep(Duration::from_millis(fastrand::u64(0..20_000))).await;
        leave(registration).await.unwrap();
        let attempts = registry.attempts.load(Relaxed);
        memory.faults(|faults| faults.down = None);
        sleep(HOUR).await;
        assert!(board(&memory).is_empty());
        assert_eq!((registry.attempts.load(Relaxed), alive_tasks()), (attempts, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_registers_after_the_owner_has_left_is_revoked() {
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    let leave = tokio::spawn(leave(registration));
    settle().await;
    assert!(!leave.is_finished());
    memory.faults(|faults| faults.hang = false);
    leave.await.unwrap().unwrap();
    assert_eq!((board(&memory).len(), registry.attempts.load(Relaxed), registry.claims.load(Relaxed)), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_takes_no_longer_than_the_attempt_in_flight() {
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    let start = Instant::now();
    leave(registration).await.unwrap();
    assert!((9 * SECOND..11 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    memory.faults(|faults| faults.hang = false);
    sleep(HOUR).await;
    assert_eq!((board(&memory).len(), registry.attempts.load(Relaxed), alive_tasks()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_the_next_attempt() {
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    settle().await;
    let start = Instant::now();
    leave(registration).await.unwrap();
    assert_eq!((start.elapsed(), registry.attempts.load(Relaxed)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_leaves_before_the_first_attempt_is_never_announced() {
    let (_memory, registry, registration) = registered();
    leave(registration).await.unwrap();
    assert_eq!(registry.attempts.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn leave_says_so_if_the_entry_could_not_be_removed() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let state = registration.watch_state();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    assert_eq!(leave(registration).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(matches!(&*state.borrow(), RegistrationState::Deregistered { error: Some(_), .. }));

    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    memory.faults(|faults| faults.hang = true);
    let start = Instant::now();
    let error = leave(registration).await.unwrap_err();
    assert_eq!((error.kind(), error.service()), (ErrorKind::Timeout, Some(&service())));
    assert!(start.elapsed() < 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_takes_the_instance_off_the_board_and_ends_the_task() {
    let (memory, registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let mut state = registration.watch_state();
    drop(registration);
    state.wait_for(|state| matches!(state, RegistrationState::Deregistered { .. })).await.unwrap();
    settle().await;
    assert_eq!((board(&memory).len(), registry.claims.load(Relaxed), alive_tasks()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_is_not_waited_for_goes_on() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    memory.faults(|faults| faults.hang = true);
    assert!(registration.deregister().now_or_never().is_none());
    memory.faults(|faults| faults.hang = false);
    settle().await;
    assert_eq!((board(&memory).len(), alive_tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_a_change_without_a_gap_and_the_latest_of_many_wins() {
    let (memory, registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let mut watch = memory.watch(&service());
    for weight in 1..=100 {
        registration.update(|instance| instance.set_weight(weight));
    }
    registration.update(|instance| instance.set_zone(Some("eu-1".into())));
    loop {
        let instances = watch.next().await.unwrap().unwrap().instances;
        assert_eq!(instances.len(), 1);
        if *instances[0] == instance().with_weight(100).with_zone("eu-1") {
            break;
        }
    }
    registration.update(|instance| instance.set_weight(100));
    settle().await;
    assert_eq!((registry.attempts.load(Relaxed), registry.updates.load(Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_update_cannot_change_which_instance_it_is() {
    let (memory, registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    registration.update(|changed| {
        *changed = Instance::new("other", "127.0.0.1:2".parse().unwrap()).unwrap().with_metadata("version", "2");
    });
    settle().await;
    assert_eq!(board(&memory), [instance().with_metadata("version", "2")]);
    assert_eq!(registry.attempts.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_panics_changes_nothing() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        registration.update(|instance| {
            instance.set_weight(9);
            panic!("on purpose");
        });
    }));
    assert!(panicked.is_err());
    registration.update(|instance| instance.set_zone(Some("eu-1".into())));
    settle().await;
    assert_eq!(board(&memory), [instance().with_zone("eu-1")]);
}

#[tokio::test(start_paused = true)]
async fn an_update_made_during_an_outage_is_part_of_the_next_attempt() {
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    sleep(60 * SECOND).await;
    registration.update(|instance| instance.set_weight(7));
    memory.faults(|faults| faults.down = None);
    registration.wait_registered(10 * SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance().with_weight(7)]);
    settle().await;
    assert_eq!(registry.updates.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_update_made_while_registering_is_published_afterwards() {
    let (memory, _registry, registration) = registered();
    memory.faults(|faults| faults.hang = true);
    settle().await;
    registration.update(|instance| instance.set_weight(7));
    memory.faults(|faults| faults.hang = false);
    settle().await;
    assert_eq!(board(&memory), [instance().with_weight(7)]);
}

/// Why what is published is not what the owner wishes.
fn pending(state: &RegistrationState) -> Option<ErrorKind> {
    match state {
        RegistrationState::Registered { pending, .. } => pending.as_ref().map(Error::kind),
        off => panic!("off the board: {off:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_published_leaves_what_is_there_and_is_tried_again() {
    let (memory, registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let RegistrationState::Registered { since: joined, .. } = registration.state() else { panic!("not on the board") };
    for (fault, kind) in [(None, ErrorKind::Timeout), (Some(ErrorKind::Unavailable), ErrorKind::Unavailable)] {
        memory.faults(|faults| (faults.hang, faults.down) = (fault.is_none(), fault.map(error)));
        registration.update(|instance| instance.set_weight(instance.weight() + 7));
        let mut state = registration.watch_state();
        timeout(HOUR, state.wait_for(|state| pending(state) == Some(kind))).await.expect("it shows").unwrap();
        let before = registry.updates.load(Relaxed);
        sleep(HOUR / 60).await;
        let tried = registry.updates.load(Relaxed) - before;
        assert!((4..60).contains(&tried), "tried {tried} times in a minute");
        assert_eq!(pending(&registration.state()), Some(kind));
        memory.faults(|faults| (faults.hang, faults.down) = (false, None));
        timeout(HOUR, state.wait_for(|state| pending(state).is_none())).await.expect("it is published").unwrap();
    }
    assert_eq!(board(&memory), [instance().with_weight(15)]);
    let RegistrationState::Registered { since, .. } = registration.state() else { panic!("not on the board") };
    assert_eq!((since, registry.attempts.load(Relaxed)), (joined, 1), "it has been on the board all the time");
}

#[tokio::test(start_paused = true)]
async fn a_new_wish_does_not_wait_for_the_next_attempt_at_the_former() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    registration.update(|instance| instance.set_weight(7));
    settle().await;
    assert_eq!(pending(&registration.state()), Some(ErrorKind::Denied));
    memory.faults(|faults| faults.down = None);
    registration.update(|instance| instance.set_weight(8));
    settle().await;
    assert_eq!((pending(&registration.state()), board(&memory)), (None, vec![instance().with_weight(8)]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_wish_does_not_keep_an_instance_off_the_board_that_is_lost_meanwhile() {
    let registry = Counted { refuses: Some(7), ..Counted::default() };
    let (memory, registry, registration) = registered_on(registry);
    registration.wait_registered(SECOND).await.unwrap();
    registration.update(|instance| instance.set_weight(2));
    settle().await;
    registration.update(|instance| instance.set_weight(7));
    settle().await;
    assert_eq!(pending(&registration.state()), Some(ErrorKind::Invalid));
    memory.put(&service(), instance().id(), None);
    assert!(matches!(off_board(&registration).await, RegistrationState::Lost { .. }));
    registration.wait_registered(SECOND).await.unwrap();
    assert_eq!(pending(&registration.state()), Some(ErrorKind::Invalid), "the wish stands, and is not published");
    assert_eq!(board(&memory), [instance().with_weight(2)], "the last record that was taken");
    registration.update(|instance| instance.set_weight(3));
    settle().await;
    assert_eq!((pending(&registration.state()), board(&memory)), (None, vec![instance().with_weight(3)]));
    assert_eq!(registry.most_claims.load(Relaxed), 1);
    leave(registration).await.unwrap();
    assert!(board(&memory).is_empty());
}

/// On the board with weight 1, with a wish for 7, which is refused. Each attempt takes twice so many milliseconds.
async fn with_a_refused_wish(takes: Range<u64>) -> (Memory, Arc<Counted>, Registration) {
    let (memory, registry, registration) = registered_on(Counted { refuses: Some(7), takes, ..Counted::default() });
    registration.wait_registered(HOUR).await.unwrap();
    registration.update(|instance| instance.set_weight(7));
    settle().await;
    assert_eq!(pending(&registration.state()), Some(ErrorKind::Invalid));
    (memory, registry, registration)
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_told_although_the_wish_is_refused_too() {
    let (memory, registry, registration) = with_a_refused_wish(0..0).await;
    let other = memory.register(&service(), &newer()).await.unwrap();
    off_board(&registration).await;
    sleep(60 * SECOND).await;
    let RegistrationState::Lost { error, .. } = registration.state() else { panic!("not lost") };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let attempts = registry.attempts.load(Relaxed);
    other.revoke().await.unwrap();
    registration.wait_registered(4 * SECOND).await.unwrap();
    assert!(attempts > 10, "{attempts} attempts in a minute");
    assert_eq!(pending(&registration.state()), Some(ErrorKind::Invalid));
}

#[tokio::test(start_paused = true)]
async fn leaving_does_not_wait_for_the_last_record_behind_a_refused_wish() {
    let (memory, registry, registration) = with_a_refused_wish(4_500..4_501).await;
    memory.put(&service(), instance().id(), None);
    off_board(&registration).await;
    let before = registry.attempts.load(Relaxed);
    while registry.attempts.load(Relaxed) == before {
        settle().await;
    }
    leave(registration).await.unwrap();
    assert_eq!((registry.attempts.load(Relaxed), board(&memory).len()), (before + 1, 0), "one attempt was in flight");
}

#[tokio::test(start_paused = true)]
async fn a_published_change_starts_the_waits_of_the_next_one_over() {
    let (memory, registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    for weight in 2..20 {
        memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
        registration.update(|instance| instance.set_weight(weight));
        settle().await;
        memory.faults(|faults| faults.down = None);
        let failed = registry.updates.load(Relaxed);
        // The first wait is 150 ms at most.
        sleep(Duration::from_millis(200)).await;
        assert_eq!((pending(&registration.state()), registry.updates.load(Relaxed)), (None, failed + 1), "{weight}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_published_is_no_news_of_the_state() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let mut news = registration.watch_state();
    news.mark_unchanged();
    registration.update(|instance| instance.set_weight(2));
    settle().await;
    assert_eq!(board(&memory), [instance().with_weight(2)]);
    assert!(!news.has_changed().unwrap(), "on the board it was before");
}

#[tokio::test(start_paused = true)]
async fn a_first_record_that_is_refused_is_not_on_the_board() {
    let registry = Counted { refuses: Some(1), ..Counted::default() };
    let (memory, _registry, registration) = registered_on(registry);
    assert_eq!(registration.wait_registered(SECOND).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(board(&memory).is_empty());
}

fn newer() -> Instance {
    instance().with_incarnation(Incarnation::from_micros(6))
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_that_is_there_is_waited_for() {
    let memory = Memory::default();
    let other = memory.register(&service(), &newer()).await.unwrap();
    let (memory, registry, registration) = registered_on(Counted { memory, ..Counted::default() });
    let error = registration.wait_registered(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let said = "the id \"a\" is taken by 127.0.0.1:1, of incarnation 6; this one is of incarnation 5";
    assert_eq!(error.message(), said);
    let attempts = registry.attempts.load(Relaxed);
    assert!((1_000..4_000).contains(&attempts), "{attempts} attempts in an hour");
    assert_eq!(board(&memory), [newer()]);
    other.revoke().await.unwrap();
    registration.wait_registered(4 * SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance()]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_that_comes_is_waited_for() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    let other = memory.register(&service(), &newer()).await.unwrap();
    let RegistrationState::Lost { error, .. } = off_board(&registration).await else { panic!("not lost") };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    sleep(HOUR).await;
    assert_eq!(board(&memory), [newer()]);
    other.revoke().await.unwrap();
    registration.wait_registered(4 * SECOND).await.unwrap();
    let there: Vec<_> = board(&memory).iter().map(|instance| instance.address().to_string()).collect();
    assert_eq!(there, [instance().address().to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_ends_it_if_that_is_wished_after_as_long_as_that_is_wished() {
    let minute = 60 * SECOND;
    let memory = Memory::default();
    let _other = memory.register(&service(), &newer()).await.unwrap();
    for patience in [Duration::ZERO, minute] {
        let (begun, mut settings) = (Instant::now(), RegistrationSettings::default());
        settings.conflict_timeout = Some(patience);
        let registration = register(Arc::new(memory.clone()), &service(), instance(), settings);
        assert_eq!(registration.wait_registered(HOUR).await.unwrap_err().kind(), ErrorKind::Conflict);
        let (left, took) = (registration.state(), begun.elapsed());
        assert!(matches!(left, RegistrationState::Deregistered { error: Some(_), .. }), "{left:?}");
        assert!((patience..=patience + 4 * SECOND).contains(&took), "it took {took:?}");
        assert_eq!(leave(registration).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!((board(&memory), alive_tasks()), (vec![newer()], 0));
}

/// While the registry is away, nobody knows whose the id is.
#[tokio::test(start_paused = true)]
async fn patience_with_a_conflict_begins_anew_after_another_error() {
    let (memory, minute) = (Memory::default(), 60 * SECOND);
    let other = memory.register(&service(), &newer()).await.unwrap();
    let mut settings = RegistrationSettings::default();
    settings.conflict_timeout = Some(minute);
    let registration = register(Arc::new(memory.clone()), &service(), instance(), settings);
    for _ in 0..10 {
        sleep(45 * SECOND).await;
        memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
        sleep(15 * SECOND).await;
        memory.faults(|faults| faults.down = None);
        let state = registration.state();
        assert!(matches!(state, RegistrationState::Registering { .. }), "{state:?}");
    }
    other.revoke().await.unwrap();
    registration.wait_registered(10 * SECOND).await.unwrap();
}

/// Whoever may write the server's own record may claim the end of time.
#[tokio::test(start_paused = true)]
async fn a_record_of_the_far_future_takes_no_place() {
    let forged = |incarnation: u64| format!(r#"{{"v":1,"id":"a","address":"10.0.0.9:9","incarnation":{incarnation}}}"#);
    let memory = Memory::default();
    memory.put(&service(), "a", Some(forged(u64::MAX).as_bytes()));
    let registration = register(Arc::new(memory.clone()), &service(), instance(), RegistrationSettings::default());
    registration.wait_registered(SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance()]);
    memory.put(&service(), "a", Some(forged(u64::MAX).as_bytes()));
    off_board(&registration).await;
    registration.wait_registered(10 * SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance()]);
    // What may be a clock that is ahead is another server: it is waited for, and told.
    let ahead = Incarnation::fresh().as_micros() + 3_600_000_000;
    memory.put(&service(), "a", Some(forged(ahead).as_bytes()));
    let RegistrationState::Lost { error, .. } = off_board(&registration).await else { panic!("not lost") };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    for part in ["10.0.0.9:9", &ahead.to_string()] {
        assert!(error.message().contains(part), "{error}");
    }
    memory.put(&service(), "a", None);
    registration.wait_registered(10 * SECOND).await.unwrap();
    leave(registration).await.unwrap();
}

/// As after a reload that begins anew before the old has ended.
#[tokio::test(start_paused = true)]
async fn of_two_announcements_of_one_incarnation_the_later_stays_and_the_earlier_takes_its_place() {
    let (memory, registry, earlier) = registered();
    earlier.wait_registered(SECOND).await.unwrap();
    let later = register(registry.clone(), &service(), instance().with_weight(2), RegistrationSettings::default());
    later.wait_registered(SECOND).await.unwrap();
    let RegistrationState::Lost { error, .. } = off_board(&earlier).await else { panic!("not lost") };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let mut news = later.watch_state();
    news.mark_unchanged();
    assert!(timeout(HOUR, news.changed()).await.is_err(), "the later one is let alone: {:?}", later.state());
    assert_eq!(board(&memory), [instance().with_weight(2)]);
    leave(later).await.unwrap();
    earlier.wait_registered(4 * SECOND).await.unwrap();
    assert_eq!(board(&memory).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_that_is_not_known_is_replaced_by_that_of_the_process() {
    let memory = Memory::default();
    let unknown = instance().with_incarnation(Incarnation::from_micros(0));
    let registration = register(Arc::new(memory.clone()), &service(), unknown, RegistrationSettings::default());
    registration.wait_registered(SECOND).await.unwrap();
    assert_eq!(board(&memory), [instance().with_incarnation(Incarnation::of_this_process())]);
}

#[tokio::test(start_paused = true)]
async fn on_board_gives_the_last_error_when_its_time_is_over() {
    let (memory, _registry, registration) = registered();
    memory.faults(|faults| faults.hang = true);
    let start = Instant::now();
    assert_eq!(registration.wait_registered(SECOND).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < 2 * SECOND);
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    memory.faults(|faults| faults.hang = false);
    assert_eq!(registration.wait_registered(SECOND).await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(matches!(registration.state(), RegistrationState::Registering { failures: 1, error: Some(_), .. }));
    memory.faults(|faults| faults.down = None);
    registration.wait_registered(10 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_lost_the_state_keeps_since_when_and_shows_the_latest_error() {
    let (memory, _registry, registration) = registered();
    registration.wait_registered(SECOND).await.unwrap();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Unavailable)));
    memory.put(&service(), "a", None);
    let lost_at = Instant::now();
    sleep(60 * SECOND).await;
    let RegistrationState::Lost { since, error, .. } = registration.state() else { panic!("not lost") };
    assert_eq!((since, error.kind()), (lost_at, ErrorKind::Unavailable));
}

/// How often a registry that answers with this error is asked within ten minutes.
async fn attempts_in_ten_minutes(kind: ErrorKind) -> usize {
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.down = Some(error(kind)));
    sleep(600 * SECOND).await;
    drop(registration);
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
    let (memory, registry, registration) = registered();
    memory.faults(|faults| faults.down = Some(error(ErrorKind::Denied)));
    sleep(Duration::from_millis(900)).await;
    assert_eq!(registry.attempts.load(Relaxed), 1);
    memory.faults(|faults| faults.down = None);
    registration.wait_registered(10 * SECOND).await.unwrap();
}

/// Loses the lease each time as soon as it is on the board, or after a while.
async fn losses(number: usize, after: Duration) -> Duration {
    let (memory, _registry, registration) = registered();
    let mut off = Duration::ZERO;
    for _ in 0..number {
        let start = Instant::now();
        registration.wait_registered(HOUR).await.unwrap();
        off += start.elapsed();
        sleep(after).await;
        memory.put(&service(), "a", None);
        off_board(&registration).await;
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
    async fn register(&self, _: &ServiceName, _: &Instance) -> Result<Box<dyn Lease>> {
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_does_not_leave_a_false_state_behind() {
    let registration = register(Arc::new(Panics), &service(), instance(), RegistrationSettings::default());
    assert_eq!(registration.wait_registered(HOUR).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(leave(registration).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn outside_a_runtime_the_panic_says_what_to_do() {
    let instance = Instance::at("10.0.0.7:50051".parse().unwrap()).unwrap();
    let registering = std::panic::catch_unwind(|| {
        drop(register(
            Arc::new(Memory::default()),
            &"project/test".parse().unwrap(),
            instance,
            RegistrationSettings::default(),
        ));
    });
    let panic = registering.expect_err("there is no runtime");
    let said = panic.downcast_ref::<String>().expect("a text");
    assert!(said.contains("call it in an async fn, or after `runtime.enter()`"), "{said}");
}
