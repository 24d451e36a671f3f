//! Directories: where they are, who may write to them, and what a URL says of them.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{
    Error, ErrorKind, Incarnation, Instance, Registry, Resolver, Result, ServiceName, Snapshot, Target,
};
use callboard_file::FileRegistry;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn instance(id: &str) -> Instance {
    Instance::new(id, format!("{id}.test:1").parse().unwrap()).unwrap()
}

fn at(root: &Path) -> FileRegistry {
    FileRegistry::builder(root).build().unwrap()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn first(directory: &FileRegistry, service: &ServiceName) -> Result<Snapshot> {
    timeout(SOON, directory.watch(service).next()).await.unwrap().unwrap()
}

/// Both sides refuse, for the same reason.
async fn refused(directory: &FileRegistry, service: &ServiceName) -> Error {
    let watched = first(directory, service).await.unwrap_err();
    let registered = directory.register(service, &instance("a")).await.unwrap_err();
    assert_eq!((watched.kind(), watched.to_string()), (registered.kind(), registered.to_string()));
    assert_eq!((watched.backend(), watched.service()), (Some("file"), Some(service)));
    watched
}

fn from_url(url: &str) -> Result<(FileRegistry, ServiceName)> {
    let target: Target = url.parse()?;
    let mut options = target.options();
    let directory = FileRegistry::from_target(&target, &mut options)?;
    options.finish()?;
    Ok((directory, target.service()?))
}

#[tokio::test]
async fn the_path_of_a_url_is_the_directory_of_the_service() {
    let root = TempDir::with_prefix("callboard").unwrap();
    let path = root.path().display();
    let (whole, long) = from_url(&format!("file://{path}/project/test")).unwrap();
    let _lease = whole.register(&long, &instance("a")).await.unwrap();
    assert!(root.path().join("project/test/@a.json").exists());
    // The same files by the other two ways to say it.
    let (split, short) = from_url(&format!("file:///project/test?root={path}&poll=50ms")).unwrap();
    for (directory, service) in [(whole, long), (split, short), (at(root.path()), service("project/test"))] {
        let ids: Vec<_> =
            first(&directory, &service).await.unwrap().instances.iter().map(|i| i.id().to_owned()).collect();
        assert_eq!(ids, ["a"], "{directory:?}");
    }
}

#[test]
fn what_a_url_or_a_builder_cannot_mean_is_refused_with_the_reason() {
    for (url, why) in [
        ("file://host/project/test", "without user and host"),
        ("file://user:hunter2@/project/test", "hunter2"),
        ("file:///project/test?root=run", "an absolute path"),
        ("file:///project/test?mode=0757", "no write permission for other users"),
        ("file:///project/test?mode=+755", "octal"),
        ("file:///project/test?mode=0999", "octal"),
        ("file:///project/test?mode=0077", "all for the owner"),
        ("file:///project/test?poll=1ms", "50ms to 1m"),
        ("file:///project/test?ttl=5s", "known here: mode, poll, root"),
        ("file:///run/../test", ".."),
    ] {
        let error = from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert_eq!(error.to_string().contains(why), why != "hunter2", "{error}");
    }
    let builder = || FileRegistry::builder("/run/callboard");
    for (builder, why) in [
        (FileRegistry::builder("run"), "root \"run\": expected an absolute path"),
        (builder().mode(0o10755), "mode 0o10755"),
        (builder().poll(Duration::from_secs(61)), "poll 61s: expected 50ms to 1m"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why), "{error}");
    }
    builder().mode(0o2775).poll(Duration::from_secs(60)).build().unwrap();
}

#[tokio::test]
async fn a_directory_that_every_user_can_write_to_is_refused() {
    let root = TempDir::new().unwrap();
    let (directory, service) = (at(root.path()), service("project/test"));
    drop(directory.register(&service, &instance("a")).await.unwrap());
    let (project, own) = (root.path().join("project"), root.path().join("project/test"));
    for (path, mode, allowed) in [
        (root.path(), 0o777, false),
        (root.path(), 0o1777, true), // As /tmp: what is below belongs to who made it.
        (&project, 0o777, false),
        (&project, 0o1777, true),
        (&own, 0o1777, false),
        (&own, 0o775, true),
    ] {
        chmod(path, mode);
        if allowed {
            first(&directory, &service).await.unwrap();
            drop(directory.register(&service, &instance("a")).await.unwrap());
        } else {
            let error = refused(&directory, &service).await;
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            let said = error.to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("chmod o-w"), "{said}");
        }
        chmod(path, 0o755);
    }
}

#[tokio::test]
async fn what_is_made_has_the_mode_that_was_asked_for() {
    let root = TempDir::new().unwrap();
    let directory = FileRegistry::builder(root.path()).mode(0o2700).build().unwrap();
    let _lease = directory.register(&service("project/test"), &instance("a")).await.unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(["project", "project/test", "project/test/@a.json"].map(mode), [0o2700, 0o2700, 0o600]);
}

#[tokio::test]
async fn a_root_that_is_not_there_is_out_of_reach_and_a_file_is_no_directory() {
    let temporary = TempDir::new().unwrap();
    let (missing, file) = (temporary.path().join("missing"), temporary.path().join("file"));
    fs::write(&file, "").unwrap();
    let error = refused(&at(&missing), &service("project/test")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    assert!(!missing.exists(), "the root is not made");
    let error = refused(&at(&file), &service("project/test")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().ends_with(&format!("{} is not a directory", file.display())), "{error}");
    // The same below the root.
    let error = refused(&at(temporary.path()), &service("file")).await;
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("is not a directory"), "{error:?}");
}

/// With polls of a minute, so that only the system's watch can find it: at each step of the way to the directory, and when that is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_notices_a_directory_that_is_made_later_and_made_anew() {
    let root = TempDir::new().unwrap();
    let slow = FileRegistry::builder(root.path()).poll(Duration::from_secs(60)).build().unwrap();
    let service = service("a/b/c");
    let watcher = Watcher::new(Arc::new(slow), &service);
    watcher.until_ids(SOON, "it is not there", &[]).await;
    fs::create_dir(root.path().join("a")).unwrap();
    let _first = at(root.path()).register(&service, &instance("first")).await.unwrap();
    watcher.until_ids(SOON, "made", &["first"]).await;
    fs::rename(root.path().join("a/b/c"), root.path().join("a/b/old")).unwrap();
    let _second = at(root.path()).register(&service, &instance("second")).await.unwrap();
    watcher.until_ids(SOON, "made anew", &["second"]).await;
    let _third = at(root.path()).register(&service, &instance("third")).await.unwrap();
    watcher.until_ids(SOON, "heard in the new one", &["second", "third"]).await;
}

/// A change while a watch is set up is noticed or read: with polls of a minute, nothing else would find it.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_registers_while_a_watch_begins_is_seen() {
    let root = TempDir::new().unwrap();
    let slow = FileRegistry::builder(root.path()).poll(Duration::from_secs(60)).build().unwrap();
    for round in 0..100 {
        let service = service(&format!("s{round}/a/b"));
        let watcher = Watcher::new(Arc::new(slow.clone()), &service);
        let _lease = slow.register(&service, &instance("a")).await.unwrap();
        watcher.until_ids(SOON, "registered", &["a"]).await;
    }
}

/// A file that is replaced again and again, by one process or by the next, is there at each look.
#[tokio::test(flavor = "multi_thread")]
async fn no_update_looks_like_a_gap() {
    let root = TempDir::new().unwrap();
    let (directory, service) = (at(root.path()), service("s"));
    let mut lease = directory.register(&service, &instance("a")).await.unwrap();
    let (updater, to) = (directory.clone(), service.clone());
    let updates = tokio::spawn(async move {
        for weight in 1..=1_000 {
            if weight % 10 == 0 {
                lease = updater.register(&to, &instance("a").with_weight(weight)).await.unwrap();
            }
            lease.update(&instance("a").with_weight(weight)).await.unwrap();
        }
        lease
    });
    let mut looks = 0;
    while !updates.is_finished() {
        assert_eq!(first(&directory, &service).await.unwrap().instances.len(), 1, "after {looks} looks");
        looks += 1;
    }
    updates.await.unwrap();
    assert!(looks > 0);
}

/// Each holds the lock while it looks for a newer one and writes.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_the_same_moment_the_newest_has_it() {
    let root = TempDir::new().unwrap();
    let directory = at(root.path());
    for round in 0..50 {
        let service = service(&format!("s{round}"));
        let claims = (1..=8).map(|number| {
            let (directory, service) = (directory.clone(), service.clone());
            let instance = instance("a").with_incarnation(Incarnation::from_micros(number));
            tokio::spawn(async move { directory.register(&service, &instance).await })
        });
        let mut held = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                Ok(lease) => held.push(lease),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
            }
        }
        let there = first(&directory, &service).await.unwrap().instances;
        assert_eq!(there.iter().map(|i| i.incarnation().as_micros()).collect::<Vec<_>>(), [8], "round {round}");
    }
}

/// As when a process is stopped while it changes something.
#[tokio::test(flavor = "multi_thread")]
async fn while_another_process_keeps_the_directory_locked_changes_fail_and_watches_go_on() {
    let root = TempDir::new().unwrap();
    let (directory, service) = (at(root.path()), service("s"));
    let mut lease = directory.register(&service, &instance("a")).await.unwrap();
    let own = fs::File::open(root.path().join("s")).unwrap();
    rustix::fs::flock(&own, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = timeout(SOON, directory.register(&service, &instance("b"))).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.service()), (ErrorKind::Timeout, Some(&service)), "{error:?}");
    assert!(error.to_string().contains(root.path().join("s").to_str().unwrap()), "{error}");
    assert_eq!(first(&directory, &service).await.unwrap().instances.len(), 1);
    drop(own);
    lease.update(&instance("a").with_weight(2)).await.unwrap();
    lease.revoke().await.unwrap();
}

/// An attempt to register that was given up while it waited for the directory's lock does not replace a later registration.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_given_up_replaces_nothing_later() {
    let root = TempDir::new().unwrap();
    let (directory, service) = (at(root.path()), service("s"));
    fs::create_dir(root.path().join("s")).unwrap();
    for round in 0..20 {
        let own = fs::File::open(root.path().join("s")).unwrap();
        rustix::fs::flock(&own, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let instance = instance(&format!("a{round}"));
        let attempt = timeout(Duration::from_millis(20), directory.register(&service, &instance)).await;
        assert!(attempt.is_err(), "{attempt:?}");
        drop(own);
        let mut lease = directory.register(&service, &instance.clone().with_weight(2)).await.unwrap();
        // Whoever waited for the lock looks again each millisecond.
        tokio::time::sleep(Duration::from_millis(20)).await;
        lease.update(&instance.clone().with_weight(3)).await.expect("the place is still its own");
        lease.revoke().await.unwrap();
    }
}

/// Files of any kind: they are skipped and counted, without waiting, and stay.
#[tokio::test]
async fn what_is_no_file_of_callboard_is_skipped_and_stays() {
    let root = TempDir::new().unwrap();
    let (directory, service) = (at(root.path()), service("s"));
    let _lease = directory.register(&service, &instance("good")).await.unwrap();
    let own = root.path().join("s");
    symlink(own.join("@good.json"), own.join("@link.json")).unwrap();
    symlink("/nowhere", own.join("@dangling.json")).unwrap();
    fs::create_dir(own.join("@folder.json")).unwrap();
    fs::write(own.join("@empty.json"), "").unwrap();
    fs::write(own.join("@long.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    fs::copy(own.join("@good.json"), own.join("@open-to-everybody.json")).unwrap();
    chmod(&own.join("@open-to-everybody.json"), 0o666);
    let pipe = own.join("@pipe.json");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(own.join("@socket.json")).unwrap();
    fs::write(own.join("notes.txt"), "not named as a record").unwrap();
    let before = fs::read_dir(&own).unwrap().count();
    let snapshot = first(&directory, &service).await.unwrap();
    assert_eq!((snapshot.instances.len(), snapshot.skipped), (1, 8));
    let _other = directory.register(&service, &instance("other")).await.unwrap();
    assert_eq!(fs::read_dir(&own).unwrap().count(), before + 1);
}

/// The file and its lock were there all the time, only not where they are looked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_away_for_a_while_ends_no_registration() {
    let temporary = TempDir::new().unwrap();
    let (root, away) = (temporary.path().join("root"), temporary.path().join("away"));
    fs::create_dir(&root).unwrap();
    let quick = FileRegistry::builder(&root).poll(Duration::from_millis(50)).build().unwrap();
    let service = service("project/test");
    let mut lease = quick.register(&service, &instance("a")).await.unwrap();
    let watcher = Watcher::new(Arc::new(quick), &service);
    watcher.until_ids(SOON, "registered", &["a"]).await;
    for replaced in [false, true] {
        fs::rename(&root, &away).unwrap();
        if replaced {
            fs::write(&root, "a file").unwrap();
        }
        watcher.until(SOON, "out of reach", |seen| seen.stale.is_some()).await;
        let lost = timeout(Duration::from_millis(500), lease.lost()).await;
        assert!(lost.is_err(), "lost although the file is there: {lost:?}");
        assert!(lease.update(&instance("a").with_weight(2)).await.is_err(), "it is out of reach");
        if replaced {
            fs::remove_file(&root).unwrap();
        }
        fs::rename(&away, &root).unwrap();
        let seen = watcher.until(SOON, "in reach again", |seen| seen.stale.is_none()).await;
        assert!(seen.gaps.is_empty() && seen.ids() == ["a"], "{seen:?}");
    }
    lease.update(&instance("a").with_weight(3)).await.unwrap();
    // Where everything is deleted, so is the entry, although the root is not there to look.
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(timeout(SOON, lease.lost()).await.unwrap().kind(), ErrorKind::Lost);
}

/// A lease that is revoked removes what it can, and returns an error for what it cannot.
#[tokio::test]
async fn revoking_where_the_directory_is_gone_is_no_error_unless_the_root_is_gone_too() {
    let temporary = TempDir::new().unwrap();
    let root = temporary.path().join("root");
    fs::create_dir(&root).unwrap();
    let (directory, service) = (at(&root), service("s"));
    let lease = directory.register(&service, &instance("a")).await.unwrap();
    fs::remove_dir_all(root.join("s")).unwrap();
    lease.revoke().await.unwrap();
    let lease = directory.register(&service, &instance("a")).await.unwrap();
    fs::rename(&root, temporary.path().join("away")).unwrap();
    assert_eq!(lease.revoke().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// An instance whose fields were changed after it was made.
#[tokio::test]
async fn an_id_that_is_a_path_reaches_no_file() {
    let temporary = TempDir::new().unwrap();
    let root = temporary.path().join("root");
    fs::create_dir(&root).unwrap();
    let (directory, service) = (at(&root), service("s"));
    let mut lease = directory.register(&service, &instance("a")).await.unwrap();
    fs::create_dir(root.join("s/@")).unwrap();
    instance("a").with_id("/../../../a").expect_err("a path");
    let error = lease.update(&instance("b")).await.expect_err("another id");
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("\"b\""), "{error}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "nothing is beside the root");
    lease.update(&instance("a").with_weight(2)).await.unwrap();
}
