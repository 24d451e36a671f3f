//! `watch` against the memory backend and against scripted watches, whole and broken.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_core::{
    Error, ErrorKind, Incarnation, Instance, Registry, Resolution, Resolver, Result, ServiceName, Snapshot, Snapshots,
    WatchSettings, Watcher, encode, watch,
};
use callboard_memory::Memory;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn instance(id: &str) -> Instance {
    let port = u16::from(id.as_bytes()[0]);
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    Instance::new(id, address).unwrap().with_incarnation(Incarnation::from_micros(5))
}

fn put(memory: &Memory, instance: &Instance) {
    memory.put(&service(), instance.id(), Some(encode(instance).as_bytes()));
}

fn remove(memory: &Memory, id: &str) {
    memory.put(&service(), id, None);
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

fn down(memory: &Memory) {
    memory.faults(|faults| faults.down = Some(unavailable("down")));
}

fn up(memory: &Memory) {
    memory.faults(|faults| faults.down = None);
}

fn ids(view: &Resolution) -> Vec<&str> {
    view.instances.as_deref().expect("a set").iter().map(|instance| instance.id()).collect()
}

/// A followed registry on which `a` and `b` stand, and that has been seen.
async fn followed() -> (Memory, Watcher) {
    let memory = Memory::default();
    put(&memory, &instance("a"));
    put(&memory, &instance("b"));
    let mut watcher = watch(Arc::new(memory.clone()), &service(), WatchSettings::default());
    assert_eq!(ids(watcher.changed().await), ["a", "b"]);
    (memory, watcher)
}

/// The next view and how long it took to come; None if none comes within the time.
async fn next(watcher: &mut Watcher, within: Duration) -> Option<(Resolution, Duration)> {
    let start = Instant::now();
    let view = timeout(within, watcher.changed()).await.ok()?.clone();
    Some((view, start.elapsed()))
}

/// Awaits changes for so long, and returns them.
async fn views(watcher: &mut Watcher, within: Duration) -> Vec<Resolution> {
    let end = Instant::now() + within;
    let mut views = Vec::new();
    while let Some((view, _)) = next(watcher, end - Instant::now()).await {
        views.push(view);
    }
    views
}

/// A resolver whose every watch is what a function makes of its number.
struct Scripted<F> {
    script: F,
    watches: Arc<AtomicUsize>,
}

impl<F> std::fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl<F: Fn(usize) -> Snapshots + Send + Sync + 'static> Resolver for Scripted<F> {
    fn watch(&self, _: &ServiceName) -> Snapshots {
        (self.script)(self.watches.fetch_add(1, Relaxed))
    }
}

/// Follows scripted watches, and counts how many were opened.
fn scripted(script: impl Fn(usize) -> Snapshots + Send + Sync + 'static) -> (Watcher, Arc<AtomicUsize>) {
    let watches = Arc::default();
    let resolver = Scripted { script, watches: Arc::clone(&watches) };
    (watch(Arc::new(resolver), &service(), WatchSettings::default()), watches)
}

fn set(ids: &[&str]) -> Result<Snapshot> {
    Ok(Snapshot::new(ids.iter().map(|id| instance(id))))
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_and_equal_sets_are_not() {
    let (memory, mut watcher) = followed().await;
    let before = watcher.resolution().clone();
    memory.put(&"project/other".parse().unwrap(), "x", Some(b"equal sets for this service"));
    put(&memory, &instance("a"));
    assert!(next(&mut watcher, 60 * SECOND).await.is_none());
    put(&memory, &instance("b").with_weight(7));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    let (before, after) = (before.instances.unwrap(), view.instances.unwrap());
    assert!(Arc::ptr_eq(&before[0], &after[0]), "a is the same allocation");
    assert_eq!(after[1].weight(), 7);
    assert!(!Arc::ptr_eq(&before, &after));
}

#[tokio::test(start_paused = true)]
async fn the_first_set_may_be_empty_and_is_known_from_then_on() {
    let mut watcher = watch(Arc::new(Memory::default()), &service(), WatchSettings::default());
    assert!(watcher.resolution().instances.is_none());
    let (view, took) = next(&mut watcher, SECOND).await.unwrap();
    assert!(ids(&view).is_empty());
    assert_eq!((view.empty_from, took), (None, Duration::ZERO));
    assert!(ids(watcher.resolution()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_counted() {
    let (memory, mut watcher) = followed().await;
    memory.put(&service(), "c", Some(b"garbage"));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view), view.skipped), (vec!["a", "b"], 1));
}

/// What the address of each id is.
fn addresses(view: &Resolution) -> Vec<String> {
    let instances = view.instances.as_deref().expect("a set").iter();
    instances.map(|instance| format!("{} {}", instance.id(), instance.address())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_under_another_key_takes_nobodys_place() {
    let (memory, mut watcher) = followed().await;
    let (a, b) = (instance("a"), instance("b"));
    let before = [format!("a {}", a.address()), format!("b {}", b.address())];
    assert_eq!(addresses(watcher.resolution()), before);
    // Somebody else's id, and then somebody else's address too.
    let far = Incarnation::from_micros(Incarnation::fresh().as_micros() + 1_000_000);
    let elsewhere = Instance::new("a", "10.0.0.9:9".parse().unwrap()).unwrap().with_incarnation(far);
    memory.put(&service(), "zz", Some(encode(&elsewhere).as_bytes()));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!(addresses(&view), [&before[0], &before[1], "zz 10.0.0.9:9"]);
    memory.put(&service(), "zz", Some(encode(&a.with_incarnation(far)).as_bytes()));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    let there = addresses(&view);
    assert_eq!(there[..2], before);
    assert_eq!(there[2], before[0].replace("a ", "zz "), "both count");
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_of_the_far_future_counts_as_not_known() {
    let forged = format!(r#"{{"v":1,"id":"a","address":"10.0.0.9:9","incarnation":{}}}"#, u64::MAX);
    let forged = callboard_core::decode(forged.as_bytes()).unwrap();
    // As in a registry that holds several records of one id, such as ZooKeeper.
    let both =
        move |_| stream::iter([Ok(Snapshot::new([instance("a"), forged.clone()]))]).chain(stream::pending()).boxed();
    let (mut watcher, _) = scripted(both);
    assert_eq!(addresses(watcher.changed().await), [format!("a {}", instance("a").address())]);
}

#[tokio::test(start_paused = true)]
async fn of_a_set_that_is_too_large_a_part_is_kept_and_the_rest_is_counted() {
    let memory = Memory::default();
    let put = |number: usize| {
        let address = format!("10.0.{}.{}:1", number / 250, number % 250 + 1).parse().unwrap();
        put(&memory, &Instance::new(format!("i{number}"), address).unwrap());
    };
    (0..300).for_each(put);
    let mut settings = WatchSettings::default();
    settings.max_instances = 100;
    let mut watcher = watch(Arc::new(memory.clone()), &service(), settings);
    let (first, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&first).len(), first.left_out), (100, 200));
    put(300);
    let (second, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&second).len(), second.left_out), (100, 201));
    let stayed = ids(&second).iter().filter(|id| ids(&first).contains(id)).count();
    assert!(stayed >= 99, "{stayed} of 100 stay when one comes");
    (100..=300).for_each(|number| remove(&memory, &format!("i{number}")));
    let (third, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&third).len(), third.left_out), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn while_the_registry_is_down_for_a_minute_the_set_is_kept_and_error_and_age_are_visible() {
    let (memory, mut watcher) = followed().await;
    assert!(next(&mut watcher, 10 * SECOND).await.is_none());
    let set = watcher.resolution().instances.clone().unwrap();
    let heard = Instant::now();
    down(&memory);
    let (view, took) = next(&mut watcher, SECOND).await.unwrap();
    let stale = view.stale.expect("stale");
    assert_eq!((stale.as_of, stale.error.kind(), took), (Some(heard), ErrorKind::Unavailable, Duration::ZERO));
    assert!(Arc::ptr_eq(&set, view.instances.as_ref().unwrap()));

    assert!(next(&mut watcher, 60 * SECOND).await.is_none(), "the same error is no change");
    let view = watcher.resolution();
    assert_eq!(view.stale.as_ref().unwrap().as_of.unwrap().elapsed(), 60 * SECOND);
    assert!(Arc::ptr_eq(&set, view.instances.as_ref().unwrap()));

    memory.faults(|faults| faults.down = Some(unavailable("down for another reason")));
    let (view, _) = next(&mut watcher, 10 * SECOND).await.unwrap();
    let stale = view.stale.unwrap();
    assert_eq!((stale.error.message(), stale.as_of), ("down for another reason", Some(heard)));

    up(&memory);
    let (view, took) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert!(view.stale.is_none() && took <= 8 * SECOND, "{took:?}");
    assert!(Arc::ptr_eq(&set, view.instances.as_ref().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_never_heard_gives_no_set_and_no_age() {
    let memory = Memory::default();
    down(&memory);
    let mut watcher = watch(Arc::new(memory.clone()), &service(), WatchSettings::default());
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.instances.is_none());
    assert!(view.stale.unwrap().as_of.is_none());
    up(&memory);
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.stale.is_none() && ids(&view).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_empty_set_after_a_full_one_is_held_for_the_grace_period_and_then_believed() {
    let (memory, mut watcher) = followed().await;
    sleep(SECOND).await;
    let seen = Instant::now();
    remove(&memory, "a");
    remove(&memory, "b");
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view), view.empty_from), (vec!["a", "b"], Some(seen + 30 * SECOND)));
    // Saying it again changes nothing.
    sleep(10 * SECOND).await;
    memory.put(&"project/other".parse().unwrap(), "x", None);
    let (view, took) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), view.empty_from, took), (0, None, 20 * SECOND));
    sleep(SECOND).await;
    put(&memory, &instance("c"));
    let (view, took) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view), took), (vec!["c"], Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_signs_in_ends_the_grace() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    remove(&memory, "b");
    assert!(next(&mut watcher, SECOND).await.unwrap().0.empty_from.is_some());
    sleep(29 * SECOND).await;
    put(&memory, &instance("c"));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view), view.empty_from), (vec!["c"], None));
    assert!(next(&mut watcher, 600 * SECOND).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_during_the_grace_starts_it_anew() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    remove(&memory, "b");
    assert!(next(&mut watcher, SECOND).await.unwrap().0.empty_from.is_some());
    sleep(20 * SECOND).await;
    down(&memory);
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.stale.is_some() && view.empty_from.is_none());
    assert!(next(&mut watcher, 600 * SECOND).await.is_none(), "silence is not believed to be emptiness");
    assert_eq!(ids(watcher.resolution()), ["a", "b"]);

    up(&memory);
    let (view, _) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert!(view.stale.is_none());
    assert_eq!((ids(&view), view.empty_from), (vec!["a", "b"], Some(Instant::now() + 30 * SECOND)));
    let (view, took) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), took), (0, 30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_grace_of_zero_believes_at_once_and_an_endless_one_never_does() {
    for (grace, believed) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let memory = Memory::default();
        put(&memory, &instance("a"));
        let mut settings = WatchSettings::default();
        settings.empty_grace = grace;
        let mut watcher = watch(Arc::new(memory.clone()), &service(), settings);
        watcher.changed().await;
        sleep(SECOND).await;
        remove(&memory, "a");
        let views = views(&mut watcher, 3600 * 24 * SECOND).await;
        assert_eq!(views.len(), 1);
        assert_eq!((ids(&views[0]).is_empty(), views[0].empty_from.is_none()), (believed, believed));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_while_nobody_listened_comes_before_the_end_of_the_grace() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    remove(&memory, "b");
    assert!(next(&mut watcher, SECOND).await.unwrap().0.empty_from.is_some());
    put(&memory, &instance("c"));
    sleep(600 * SECOND).await;
    assert_eq!(ids(watcher.changed().await), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_updates_in_a_tenth_of_a_second_are_a_handful_of_views_and_the_last_one_counts() {
    let (memory, mut watcher) = followed().await;
    sleep(SECOND).await;
    let start = Instant::now();
    let updates = tokio::spawn(async move {
        for weight in 1..=1_000 {
            put(&memory, &instance("a").with_weight(weight));
            if weight % 10 == 0 {
                sleep(MILLI).await;
            }
        }
    });
    let views = views(&mut watcher, SECOND).await;
    updates.await.unwrap();
    assert!((2..=6).contains(&views.len()), "{} views", views.len());
    assert_eq!(views.last().unwrap().instances.as_ref().unwrap()[0].weight(), 1_000);
    assert!(start.elapsed() <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_change_after_a_quiet_time_is_passed_on_at_once_and_the_next_ones_together() {
    let (memory, mut watcher) = followed().await;
    sleep(20 * MILLI).await;
    put(&memory, &instance("c"));
    let (view, took) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), took), (3, Duration::ZERO));
    sleep(5 * MILLI).await;
    put(&memory, &instance("d"));
    put(&memory, &instance("e"));
    let (view, took) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), took), (5, 15 * MILLI));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_taken_back_while_changes_are_gathered_is_none() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    assert!(next(&mut watcher, 10 * MILLI).await.is_none());
    put(&memory, &instance("a"));
    assert!(next(&mut watcher, SECOND).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_pauses_keeps_neither_views_nor_the_thread_from_going_on() {
    let (mut watcher, _) = scripted(|_| stream::repeat_with(|| set(&["a"])).boxed());
    assert_eq!(ids(watcher.changed().await), ["a"]);
    tokio::select! {
        biased;
        _ = watcher.changed() => panic!("the sets are equal"),
        done = tokio::spawn(async {}) => done.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_yields_nothing_in_time_is_dropped_and_opened_again() {
    let memory = Memory::default();
    put(&memory, &instance("a"));
    memory.faults(|faults| faults.hold = true);
    let mut watcher = watch(Arc::new(memory.clone()), &service(), WatchSettings::default());
    let (view, took) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert_eq!((view.stale.unwrap().error.kind(), took), (ErrorKind::Timeout, 10 * SECOND));
    assert!(view.instances.is_none());
    memory.faults(|faults| faults.hold = false);
    assert_eq!(ids(&next(&mut watcher, SECOND).await.unwrap().0), ["a"]);
    // Once it has been heard, a watch may be silent for as long as it likes.
    memory.faults(|faults| faults.hold = true);
    assert!(next(&mut watcher, 3600 * SECOND).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_watch_counts_as_an_error() {
    let (mut watcher, watches) = scripted(|number| match number {
        0 => stream::iter([set(&["a"])]).boxed(),
        _ => stream::iter([set(&["a", "b"])]).chain(stream::pending()).boxed(),
    });
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.stale.is_some_and(|stale| stale.error.kind() == ErrorKind::Unavailable));
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view), watches.load(Relaxed)), (vec!["a", "b"], 2));
}

/// How many watches are opened within ten minutes.
async fn watches_in_ten_minutes(script: impl Fn(usize) -> Snapshots + Send + Sync + 'static) -> usize {
    let (mut watcher, watches) = scripted(script);
    views(&mut watcher, 600 * SECOND).await;
    watches.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_fails_is_watched_for_ever_and_never_often() {
    let fails = || stream::iter([Err(unavailable("down"))]).boxed();
    let denies = || stream::iter([Err(Error::new(ErrorKind::Denied, "no"))]).boxed();
    let ends = || stream::empty().boxed();
    let fails_at_once = || stream::iter([set(&["a"]), Err(unavailable("down"))]).boxed();
    let scripts: [fn() -> Snapshots; 4] = [fails, denies, ends, fails_at_once];
    for script in scripts {
        // Waits of 1 s to 3 s, after a few shorter ones.
        let watches = watches_in_ten_minutes(move |_| script()).await;
        assert!((200..=610).contains(&watches), "{watches}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_gone_on_for_a_while_is_opened_again_soon() {
    let (mut watcher, watches) = scripted(|_| {
        let fails = async {
            sleep(8 * SECOND).await;
            Err(unavailable("down"))
        };
        stream::iter([set(&["a"])]).chain(stream::once(fails)).boxed()
    });
    let (mut stale, mut before) = (Duration::ZERO, Instant::now());
    for _ in 0..100 {
        let was_stale = watcher.resolution().stale.is_some();
        watcher.changed().await;
        if was_stale {
            stale += before.elapsed();
        }
        before = Instant::now();
    }
    assert!(watches.load(Relaxed) >= 50);
    assert!(stale < 50 * 200 * MILLI, "{stale:?}");
}

#[tokio::test(start_paused = true)]
async fn changed_may_be_dropped_and_called_again_at_any_point() {
    let (memory, mut watcher) = followed().await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let script = tokio::spawn(async move {
        sleep(SECOND).await;
        down(&memory);
        sleep(60 * SECOND).await;
        up(&memory);
        sleep(20 * SECOND).await;
        remove(&memory, "a");
        remove(&memory, "b");
        sleep(60 * SECOND).await;
        memory.faults(|faults| (faults.hold, faults.down) = (true, Some(unavailable("down"))));
        memory.faults(|faults| faults.down = None);
        sleep(SECOND * 15).await;
    });
    while !script.is_finished() {
        if let Some((view, _)) = next(&mut watcher, 7 * MILLI).await {
            let error = view.stale.as_ref().map(|stale| stale.error.kind());
            log.lock().unwrap().push((ids(&view).len(), error, view.empty_from.is_some()));
        }
    }
    let unavailable = Some(ErrorKind::Unavailable);
    let expected = [
        (2, unavailable, false),
        (2, None, false),
        (2, None, true),
        (0, None, false),
        (0, unavailable, false),
        (0, Some(ErrorKind::Timeout), false),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Counts the streams that exist.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_watch_is_dropped_at_once_and_the_last_one_with_its_owner() {
    let open = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&open);
    let (mut watcher, _) = scripted(move |number| {
        counter.fetch_add(1, Relaxed);
        let guard = Open(Arc::clone(&counter));
        let items = if number == 0 { vec![set(&["a"]), Err(unavailable("down"))] } else { vec![set(&["a"])] };
        stream::iter(items).chain(stream::pending()).map(move |item| (&guard, item).1).boxed()
    });
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.stale.is_some());
    assert_eq!(open.load(Relaxed), 0);
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(view.stale.is_none());
    assert_eq!(open.load(Relaxed), 1);
    drop(watcher);
    assert_eq!(open.load(Relaxed), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_before_changed_is_awaited() {
    let (mut watcher, watches) = scripted(|_| stream::pending().boxed());
    sleep(60 * SECOND).await;
    assert_eq!(watches.load(Relaxed), 0);
    assert!(watcher.changed().now_or_never().is_none());
    assert_eq!(watches.load(Relaxed), 1);
}

/// The text of a view's config.
fn config(view: &Resolution) -> Option<&str> {
    view.config.as_deref().map(|config| std::str::from_utf8(config).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_config_is_passed_on_with_its_changes_and_stays_through_an_outage() {
    let (memory, mut watcher) = followed().await;
    assert_eq!(config(watcher.resolution()), None);
    memory.put_service_config(&service(), Some("{}")).await.unwrap();
    let (seen, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((config(&seen), ids(&seen).len()), (Some("{}"), 2));
    // The same once more is no news.
    memory.put_service_config(&service(), Some("{}")).await.unwrap();
    assert!(next(&mut watcher, SECOND).await.is_none());
    down(&memory);
    let (outage, _) = next(&mut watcher, SECOND).await.unwrap();
    assert!(outage.stale.is_some() && Arc::ptr_eq(outage.config.as_ref().unwrap(), seen.config.as_ref().unwrap()));
    up(&memory);
    memory.put_service_config(&service(), None).await.unwrap();
    let last = views(&mut watcher, 10 * SECOND).await.pop().unwrap();
    assert_eq!((config(&last), last.stale.is_none()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn beside_an_empty_set_that_is_not_believed_a_config_counts_and_its_absence_does_not() {
    let (memory, mut watcher) = followed().await;
    memory.put_service_config(&service(), Some("first")).await.unwrap();
    assert_eq!(config(&next(&mut watcher, SECOND).await.unwrap().0), Some("first"));
    // All is lost.
    memory.wipe();
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), config(&view)), (2, Some("first")));
    memory.put_service_config(&service(), Some("second")).await.unwrap();
    let (view, _) = next(&mut watcher, SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), config(&view)), (2, Some("second")));
    memory.put_service_config(&service(), None).await.unwrap();
    assert!(next(&mut watcher, SECOND).await.is_none());
    let (view, _) = next(&mut watcher, 60 * SECOND).await.unwrap();
    assert_eq!((ids(&view).len(), config(&view)), (0, None), "both are believed at once");
}

/// Records as a later version of callboard writes them.
fn put_newer(memory: &Memory, id: &str) {
    memory.put(&service(), id, Some(br#"{"v":9,"id":"a"}"#));
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_read_are_not_nobody_however_long_that_lasts() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    put_newer(&memory, "b");
    let view = views(&mut watcher, 3600 * SECOND).await.pop().expect("it is told");
    assert_eq!((ids(&view), view.skipped, view.empty_from), (vec!["a", "b"], 1, None));
    // Once nothing is there any more, that is nobody: after the grace, as ever.
    remove(&memory, "b");
    let begun = Instant::now();
    let seen = next(&mut watcher, SECOND).await.expect("an empty set is seen").0;
    assert_eq!((ids(&seen).len(), seen.skipped), (2, 0));
    assert!(seen.empty_from.is_some());
    let believed = next(&mut watcher, 60 * SECOND).await.expect("it is believed").0;
    assert_eq!((ids(&believed).len(), begun.elapsed()), (0, 30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_read_end_the_grace_of_an_empty_set() {
    let (memory, mut watcher) = followed().await;
    remove(&memory, "a");
    remove(&memory, "b");
    assert!(next(&mut watcher, SECOND).await.expect("an empty set").0.empty_from.is_some());
    sleep(10 * SECOND).await;
    put_newer(&memory, "c");
    let view = views(&mut watcher, 3600 * SECOND).await.pop().expect("it is told");
    assert_eq!((ids(&view), view.skipped, view.empty_from), (vec!["a", "b"], 1, None));
    put(&memory, &instance("c"));
    let view = next(&mut watcher, SECOND).await.expect("one that can be read").0;
    assert_eq!((ids(&view), view.skipped), (vec!["c"], 0));
}

/// A config beside them is news, and its absence too: somebody is there.
#[tokio::test(start_paused = true)]
async fn where_nothing_was_known_records_that_cannot_be_read_are_an_empty_set_that_says_so() {
    let memory = Memory::default();
    put_newer(&memory, "a");
    let mut watcher = watch(Arc::new(memory.clone()), &service(), WatchSettings::default());
    let view = watcher.changed().await;
    assert_eq!((ids(view).len(), view.skipped, view.empty_from), (0, 1, None));
    put(&memory, &instance("a"));
    assert_eq!(ids(watcher.changed().await), ["a"]);
}
