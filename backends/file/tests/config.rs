//! A service's config as a file, which a person writes with any tool.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard_conformance::{Seen, Watcher};
use callboard_core::{ErrorKind, Instance, Registry, Resolver, ServiceName, Snapshot, Snapshots, put_service_config};
use callboard_file::FileRegistry;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);
const ONE: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn instance(id: &str) -> Instance {
    Instance::new(id, format!("{id}.test:1").parse().unwrap()).unwrap()
}

/// With polls of a minute: a change is seen by the system's watch alone.
fn at(root: &Path) -> FileRegistry {
    FileRegistry::builder(root).poll(Duration::from_secs(60)).build().unwrap()
}

fn config(root: &Path) -> PathBuf {
    root.join("project/test/@config")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn next(watch: &mut Snapshots) -> Snapshot {
    timeout(SOON, watch.next()).await.expect("in time").expect("not the end").expect("a set")
}

async fn first(directory: &FileRegistry) -> Snapshot {
    next(&mut directory.watch(&service())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_half_is_seen_and_then_the_whole() {
    let root = TempDir::new().unwrap();
    let _lease = at(root.path()).register(&service(), &instance("a")).await.unwrap();
    let watcher = Watcher::new(Arc::new(at(root.path())), &service());
    let until = async |text: &str| {
        let right = |seen: &Seen| seen.ids() == ["a"] && seen.config.as_deref() == Some(text.as_bytes());
        let seen = watcher.until(SOON, text, right).await;
        assert_eq!((seen.skipped, seen.stale.is_none(), seen.emptied), (0, true, 0), "{seen:?}");
    };
    for rounds in 0..3 {
        let (half, rest) = ONE.split_at(10 + rounds);
        // It cuts to nothing what is there.
        let mut file = File::create(config(root.path())).unwrap();
        until("").await;
        file.write_all(half.as_bytes()).unwrap();
        until(half).await;
        file.write_all(rest.as_bytes()).unwrap();
        until(ONE).await;
    }
}

/// As vim and `sed -i` do.
#[tokio::test(flavor = "multi_thread")]
async fn an_editor_that_moves_the_file_away_or_replaces_it_does_not_remove_the_config() {
    let root = TempDir::new().unwrap();
    let (directory, path) = (at(root.path()), config(root.path()));
    let backup = path.with_file_name("@config~");
    directory.put_service_config(&service(), Some("{}")).await.unwrap();
    let mut watch = directory.watch(&service());
    assert_eq!(next(&mut watch).await.config.as_deref(), Some(&b"{}"[..]));
    let (mut slow, mut gone) = (0, 0);
    for round in 0..100 {
        let text = format!(r#"{{"round":{round}}}"#);
        let begun = Instant::now();
        if round % 10 == 9 {
            fs::write(&backup, &text).unwrap();
            fs::rename(&backup, &path).unwrap();
        } else {
            fs::rename(&path, &backup).unwrap();
            fs::write(&path, &text).unwrap();
        }
        // On a busy machine this process may have been put aside in between, for so long that the file was gone.
        slow += usize::from(begun.elapsed() >= Duration::from_millis(20));
        loop {
            let seen = next(&mut watch).await.config;
            gone += usize::from(seen.is_none());
            if seen.as_deref() == Some(text.as_bytes()) {
                break;
            }
        }
    }
    assert!(gone <= slow, "{gone} times without a config, of which {slow} can be explained");
    fs::remove_file(&path).unwrap();
    while next(&mut watch).await.config.is_some() {}
}

/// What callboard writes is never seen half, and is there all the time.
#[tokio::test(flavor = "multi_thread")]
async fn what_callboard_writes_is_there_at_once() {
    let root = TempDir::new().unwrap();
    let directory = at(root.path());
    let texts = [" ".repeat(200_000), "{}".to_owned()];
    directory.put_service_config(&service(), Some(&texts[0])).await.unwrap();
    let (writer, written) = (directory.clone(), texts.clone());
    let writes = tokio::spawn(async move {
        for round in 0..300 {
            writer.put_service_config(&service(), Some(&written[round % 2])).await.unwrap();
        }
    });
    let mut looks = 0;
    while !writes.is_finished() {
        let seen = first(&directory).await.config.expect("a config");
        assert!(texts.iter().any(|text| *text.as_bytes() == *seen), "{} bytes after {looks} looks", seen.len());
        looks += 1;
    }
    writes.await.unwrap();
    assert!(looks > 0);
    assert_eq!(fs::read_dir(root.path().join("project/test")).unwrap().count(), 1, "no draft is left");
}

/// It is passed on as an empty config, which no client takes, and changes nothing else.
#[tokio::test]
async fn a_config_that_cannot_be_read_is_not_taken_for_none() {
    let root = TempDir::new().unwrap();
    let (directory, path) = (at(root.path()), config(root.path()));
    let _lease = directory.register(&service(), &instance("a")).await.unwrap();
    fs::write(root.path().join("target"), ONE).unwrap();
    for what in ["link", "dangling", "long", "pipe", "open to everybody", "directory"] {
        match what {
            "link" => symlink(root.path().join("target"), &path).unwrap(),
            "dangling" => symlink("/nowhere", &path).unwrap(),
            "long" => fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap(),
            "pipe" => {
                let mode = rustix::fs::Mode::RUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            }
            "directory" => fs::create_dir(&path).unwrap(),
            _ => {
                fs::write(&path, ONE).unwrap();
                chmod(&path, 0o666);
            }
        }
        let seen = first(&directory).await;
        assert_eq!((seen.instances.len(), seen.skipped, seen.config.as_deref()), (1, 0, Some(&b""[..])), "{what}");
        // Whoever registers sweeps, and leaves it.
        drop(directory.register(&service(), &instance("b")).await.unwrap());
        assert!(fs::symlink_metadata(&path).is_ok(), "{what}");
        let put = directory.put_service_config(&service(), Some(ONE)).await;
        if what == "directory" {
            for refused in [put, directory.put_service_config(&service(), None).await] {
                let error = refused.unwrap_err();
                assert_eq!((error.kind(), error.service()), (ErrorKind::Invalid, Some(&service())), "{error:?}");
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
            continue;
        }
        put.unwrap();
        assert_eq!(first(&directory).await.config.as_deref(), Some(ONE.as_bytes()), "in place of {what}");
        directory.put_service_config(&service(), None).await.unwrap();
        assert!(fs::symlink_metadata(&path).is_err(), "{what}");
    }
    assert_eq!(fs::read_to_string(root.path().join("target")).unwrap(), ONE, "no link was followed");
}

#[tokio::test]
async fn a_sweep_leaves_the_config_and_takes_its_draft() {
    let root = TempDir::new().unwrap();
    let directory = at(root.path());
    directory.put_service_config(&service(), Some(ONE)).await.unwrap();
    let own = root.path().join("project/test");
    fs::write(own.join("@@config.tmp"), "half").unwrap();
    // An instance may be called so: that is another file.
    drop(directory.register(&service(), &instance("config")).await.unwrap());
    let _lease = directory.register(&service(), &instance("a")).await.unwrap();
    let mut left: Vec<_> = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["@a.json", "@config"]);
    let set = first(&directory).await;
    assert_eq!((set.instances.len(), set.skipped, set.config.as_deref()), (1, 0, Some(ONE.as_bytes())));
}

#[tokio::test]
async fn directories_are_made_and_what_is_not_there_is_removed_without_an_error() {
    let temporary = TempDir::new().unwrap();
    let root = temporary.path().join("root");
    fs::create_dir(&root).unwrap();
    let directory = FileRegistry::builder(&root).mode(0o2750).build().unwrap();
    put_service_config(&directory, &service(), None).await.unwrap();
    assert!(!root.join("project").exists(), "there is nothing to make for that");
    put_service_config(&directory, &service(), Some(ONE)).await.unwrap();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(["project", "project/test", "project/test/@config"].map(mode), [0o2750, 0o2750, 0o640]);
    assert_eq!(fs::read_to_string(config(&root)).unwrap(), ONE, "as it was given");
    for _ in 0..2 {
        put_service_config(&directory, &service(), None).await.unwrap();
        assert!(!config(&root).exists());
    }
    fs::rename(&root, temporary.path().join("away")).unwrap();
    for config in [Some(ONE), None] {
        let error = put_service_config(&directory, &service(), config).await.unwrap_err();
        assert_eq!((error.kind(), error.backend()), (ErrorKind::Unavailable, Some("file")), "{error:?}");
        assert!(!root.exists(), "nobody makes the root");
    }
}

#[tokio::test]
async fn a_config_that_would_not_be_read_is_not_written() {
    let root = TempDir::new().unwrap();
    let directory = at(root.path());
    let error = directory.put_service_config(&service(), Some(&" ".repeat((1 << 20) + 1))).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("1048577 bytes"), "{error:?}");
    directory.put_service_config(&service(), Some(&" ".repeat(1 << 20))).await.unwrap();
    assert_eq!(first(&directory).await.config.map(|config| config.len()), Some(1 << 20));
    chmod(&root.path().join("project/test"), 0o777);
    for config in [Some(ONE), None] {
        let error = directory.put_service_config(&service(), config).await.unwrap_err();
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&service())), "{error:?}");
    }
    assert!(config(root.path()).exists());
}

#[tokio::test]
async fn a_config_is_the_same_allocation_as_long_as_it_says_the_same() {
    let root = TempDir::new().unwrap();
    let directory = at(root.path());
    directory.put_service_config(&service(), Some(ONE)).await.unwrap();
    let mut watch = directory.watch(&service());
    let config = next(&mut watch).await.config.unwrap();
    let mut lease = directory.register(&service(), &instance("a")).await.unwrap();
    for weight in 2..5 {
        assert!(Arc::ptr_eq(&config, &next(&mut watch).await.config.unwrap()));
        directory.put_service_config(&service(), Some(ONE)).await.unwrap();
        lease.update(&instance("a").with_weight(weight)).await.unwrap();
    }
    directory.put_service_config(&service(), Some("{}")).await.unwrap();
    while next(&mut watch).await.config.as_deref() != Some(b"{}") {}
}
