//! Several processes on one directory. Each other process is this program again, as the test `another_process`.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard_conformance::Watcher;
use callboard_core::{Error, Incarnation, Instance, Registry, ServiceName, WatchSettings, watch};
use callboard_file::FileRegistry;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
/// A user who is not root.
const NOBODY: u32 = 65534;
/// A group without members.
const SERVERS: u32 = 60_123;
/// The variable that tells the test `another_process` what to do: root, id and incarnation. The id `@config` has it put a config.
const ORDER: &str = "CALLBOARD_FILE_TEST";

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn instance(id: &str, incarnation: u64) -> Instance {
    let port = 1 + incarnation;
    let instance = Instance::new(id, format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    instance.with_incarnation(Incarnation::from_micros(incarnation))
}

fn watcher(root: &Path, poll: Duration) -> Watcher {
    Watcher::new(Arc::new(FileRegistry::builder(root).poll(poll).build().unwrap()), &service())
}

fn record(root: &Path, id: &str) -> PathBuf {
    root.join("project/test").join(format!("@{id}.json"))
}

/// Another process that registers one instance. It is killed when this is dropped.
struct Other {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(root: &Path, id: &str, incarnation: u64) -> Self {
        Self::start_as(root, id, incarnation, |command| command)
    }

    fn start_as(root: &Path, id: &str, incarnation: u64, who: impl Fn(&mut Command) -> &mut Command) -> Self {
        Self::start_in(root, id, incarnation, |mut command| {
            who(&mut command);
            command
        })
    }

    /// Within another program, perhaps.
    fn start_in(root: &Path, id: &str, incarnation: u64, what: impl Fn(Command) -> Command) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "another_process", "--ignored", "--nocapture"]);
        let mut command = what(command);
        command.env(ORDER, format!("{} {id} {incarnation}", root.display()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, says }
    }

    /// The next line that it prints: `registered`, or the kind of the error.
    fn says(&mut self) -> String {
        loop {
            let line = self.says.next().expect("it says more").unwrap();
            if let Some((_, said)) = line.split_once("said: ") {
                return said.to_owned();
            }
        }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "the other process of the tests beside it, which start it"]
async fn another_process() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let [root, id, incarnation] = order.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let directory = FileRegistry::builder(root).poll(Duration::from_millis(100)).build().unwrap();
    let work = async {
        match id {
            "@config" => {
                say(directory.put_service_config(&service(), Some("{}")).await.map_or_else(kind, |()| "put".into()));
            }
            "@watch" => say_what_is_seen(directory).await,
            _ => register(directory, instance(id, incarnation.parse().unwrap())).await,
        }
        std::future::pending::<()>().await;
    };
    // Whoever has started it kills it; if that died first, its end of the pipe is closed.
    let orphaned = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    tokio::select! {
        _ = orphaned => {}
        () = work => {}
    }
}

fn say(what: impl Display) {
    println!("\nsaid: {what}");
}

#[expect(clippy::needless_pass_by_value, reason = "it takes what a failure gives")]
fn kind(error: Error) -> String {
    format!("{:?}", error.kind())
}

/// Prints how it went, and then how a change to a record of 40 KB does and why the claim ends, if it does.
async fn register(directory: FileRegistry, instance: Instance) {
    match directory.register(&service(), &instance).await {
        Err(error) => say(kind(error)),
        Ok(mut lease) => {
            say("registered");
            if instance.id() == "grows" {
                let long = instance.clone().with_metadata("note", "x".repeat(40 << 10));
                say(lease.update(&long).await.map_or_else(kind, |()| "updated".into()));
                say(lease.update(&instance.with_weight(2)).await.map_or_else(kind, |()| "updated".into()));
            }
            say(kind(lease.lost().await));
        }
    }
}

/// Prints what it sees: the ids, and why they may be out of date.
async fn say_what_is_seen(directory: FileRegistry) {
    let mut watcher = watch(Arc::new(directory), &service(), WatchSettings::default());
    loop {
        let view = watcher.changed().await;
        let ids = view.instances.as_ref().map(|all| all.iter().map(|one| one.id().to_owned()).collect::<Vec<_>>());
        say(format!("{ids:?} {:?}", view.stale.as_ref().map(|stale| stale.error.kind())));
    }
}

/// The bound that the README states is a second, with polls of one second.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_is_gone_within_the_bound() {
    let root = TempDir::new().unwrap();
    let watcher = watcher(root.path(), Duration::from_secs(1));
    let _stays = FileRegistry::builder(root.path()).build().unwrap().register(&service(), &instance("stays", 1)).await;
    let mut other = Other::start(root.path(), "dies", 2);
    assert_eq!(other.says(), "registered");
    watcher.until_ids(SOON, "registered", &["dies", "stays"]).await;
    let killed = Instant::now();
    other.kill();
    watcher.until_ids(SOON, "killed", &["stays"]).await;
    // Beside the second, the end of the process and of this one's turn on a busy machine.
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}

/// The system closes the dead owner's file, which the watch notices without a poll.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_process_is_noticed() {
    let root = TempDir::new().unwrap();
    let watcher = watcher(root.path(), Duration::from_secs(60));
    let directory = FileRegistry::builder(root.path()).build().unwrap();
    let _stays = directory.register(&service(), &instance("stays", 1)).await.unwrap();
    let mut other = Other::start(root.path(), "dies", 2);
    watcher.until_ids(SOON, "registered", &["dies", "stays"]).await;
    // Looks that its arrival has led to are over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.kill();
    watcher.until_ids(SOON, "killed", &["stays"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_leaves_is_swept_by_the_next_that_registers() {
    let root = TempDir::new().unwrap();
    let mut other = Other::start(root.path(), "dies", 1);
    assert_eq!(other.says(), "registered");
    other.kill();
    other.process.wait().unwrap();
    assert!(record(root.path(), "dies").exists(), "nobody has swept it");
    fs::write(root.path().join("project/test/@half.tmp"), "{").unwrap();
    fs::write(record(root.path(), "garbage"), "{").unwrap();
    let directory = FileRegistry::builder(root.path()).build().unwrap();
    let _lease = directory.register(&service(), &instance("next", 2)).await.unwrap();
    let left: Vec<_> =
        fs::read_dir(root.path().join("project/test")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(record(root.path(), "next").exists() && record(root.path(), "garbage").exists(), "{left:?}");
}

/// An owner that is stopped lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_stays_registered() {
    let root = TempDir::new().unwrap();
    let mut other = Other::start(root.path(), "stops", 1);
    assert_eq!(other.says(), "registered");
    other.signal(Signal::STOP);
    let watcher = watcher(root.path(), Duration::from_millis(50));
    watcher.until_ids(SOON, "stopped", &["stops"]).await;
    let gone = watcher.until(Duration::from_secs(2), "", |seen| seen.ids().is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_err());
}

/// The newest of several that register at the same moment is there in the end, and each of the others knows that.
#[tokio::test(flavor = "multi_thread")]
async fn of_processes_that_race_for_one_id_the_newest_has_it() {
    let root = TempDir::new().unwrap();
    let watcher = watcher(root.path(), Duration::from_secs(1));
    let mut racers: Vec<_> = (1..=5).rev().map(|incarnation| Other::start(root.path(), "a", incarnation)).collect();
    let mut newest = racers.remove(0);
    assert_eq!(newest.says(), "registered");
    for mut other in racers {
        let mut said = other.says();
        if said == "registered" {
            said = other.says();
        }
        // Lost: to one that was newer, and was replaced by the newest before this one could look at it.
        assert!(["Conflict", "Lost"].contains(&said.as_str()), "{said}");
    }
    let newest =
        |seen: &callboard_conformance::Seen| seen.instance("a").is_some_and(|i| i.incarnation().as_micros() == 5);
    watcher.until(SOON, "the newest", newest).await;
    assert_eq!(fs::read_dir(root.path().join("project/test")).unwrap().count(), 1, "no draft is left");
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Root may do anything, and so becomes another user; any other user takes the right from itself.
fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() { command.uid(NOBODY) } else { command }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Another user cannot register or put a config where the directory is not open to that user, and can still watch.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_write_is_denied() {
    let root = TempDir::new().unwrap();
    let is_root = is_root();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(if is_root { 0o755 } else { 0o555 })).unwrap();
    for what in ["a", "@config"] {
        let mut other = Other::start_as(root.path(), what, 1, as_nobody);
        assert_eq!(other.says(), "Denied", "{what}");
    }
    assert!(!root.path().join("project").exists());
}

/// Made with `flock(1)` and a shell: a program that knows nothing of callboard, registered by the shell that starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_shell_writes_and_locks_is_a_record() {
    let root = TempDir::new().unwrap();
    let path = record(root.path(), "by-hand");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let watcher = watcher(root.path(), Duration::from_secs(1));
    watcher.until_ids(SOON, "before", &[]).await;
    let script = r#"exec 9>>"$0"; flock 9; echo '{"v":1,"id":"by-hand","address":"127.0.0.1:1"}' >&9; exec cat"#;
    let mut shell = Command::new("sh").args(["-c", script]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    watcher.until_ids(SOON, "written by hand", &["by-hand"]).await;
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    // The only one that there was, so that this is not believed for a while.
    watcher.until(SOON, "gone", |seen| seen.stale.is_none()).await;
    let directory = FileRegistry::builder(root.path()).build().unwrap();
    let _lease = directory.register(&service(), &instance("next", 2)).await.unwrap();
    watcher.until_ids(SOON, "gone", &["next"]).await;
}

/// What may not be seen is neither empty nor up to date, and is seen again when it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_read_that_is_taken_away_makes_the_set_stale() {
    let root = TempDir::new().unwrap();
    chmod(root.path(), 0o755);
    let directory = FileRegistry::builder(root.path()).build().unwrap();
    let _stays = directory.register(&service(), &instance("stays", 1)).await.unwrap();
    let mut early = Other::start_as(root.path(), "@watch", 0, as_nobody);
    assert_eq!(early.says(), r#"Some(["stays"]) None"#);
    chmod(root.path(), 0o000);
    assert_eq!(early.says(), r#"Some(["stays"]) Some(Denied)"#);
    let mut late = Other::start_as(root.path(), "@watch", 0, as_nobody);
    assert_eq!(late.says(), "None Some(Denied)");
    chmod(root.path(), 0o755);
    for watch in [&mut early, &mut late] {
        assert_eq!(watch.says(), r#"Some(["stays"]) None"#);
    }
}

/// A server that may not look at its own file any more still has it open, and locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_not_look_at_its_file_stays_registered() {
    let root = TempDir::new().unwrap();
    if is_root() {
        std::os::unix::fs::chown(root.path(), Some(NOBODY), None).unwrap();
    }
    chmod(root.path(), 0o755);
    let watcher = watcher(root.path(), Duration::from_millis(50));
    let mut other = Other::start_as(root.path(), "a", 1, as_nobody);
    assert_eq!(other.says(), "registered");
    watcher.until_ids(SOON, "registered", &["a"]).await;
    chmod(root.path(), 0o000);
    // Ten looks of the server's at its file.
    let gone = watcher.until(SOON, "", |seen| seen.ids().is_empty() || !seen.gaps.is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(1), gone).await.is_err(), "it has lost its place");
    chmod(root.path(), 0o755);
    watcher.until(SOON, "seen again", |seen| seen.stale.is_none() && seen.ids() == ["a"]).await;
    let path = record(root.path(), "a");
    let lock = rustix::fs::flock(fs::File::open(&path).unwrap(), rustix::fs::FlockOperation::NonBlockingLockShared);
    assert!(lock.is_err(), "nobody holds it any more");
    // What is really gone is lost.
    fs::remove_file(path).unwrap();
    assert_eq!(other.says(), "Lost");
}

/// The file system takes no more: what was there stays, with its claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_for_which_there_is_no_room_leaves_what_is_there() {
    let root = TempDir::new().unwrap();
    let watcher = watcher(root.path(), Duration::from_millis(50));
    // No file may be longer than some 8 KB. The signal for that is ignored, so that the system says it as an error.
    let limited = |command: Command| {
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"trap "" XFSZ; ulimit -f 16; exec "$0" "$@""#]).arg(program).args(args);
        shell
    };
    let mut other = Other::start_in(root.path(), "grows", 1, limited);
    assert_eq!([other.says(), other.says(), other.says()], ["registered", "Invalid", "updated"]);
    let seen = watcher.until(SOON, "changed", |seen| seen.instance("grows").is_some_and(|i| i.weight() == 2)).await;
    assert!(seen.gaps.is_empty() && seen.skipped == 0, "{seen:?}");
    let files = fs::read_dir(root.path().join("project/test")).unwrap().count();
    assert_eq!(files, 1, "no draft is left");
}

/// As they stand in the guide's page: the servers' group registers, and others watch.
#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_guide_gives_are_enough_and_no_more() {
    let temporary = TempDir::new().unwrap();
    chmod(temporary.path(), 0o755);
    let root = temporary.path().join("root");
    // Nobody has a group of its own; who is not root has no other than its own.
    let group = if is_root() { SERVERS } else { rustix::process::getgid().as_raw() };
    let variables = [("ROOT", root.to_str().unwrap()), ("SERVERS", &group.to_string())];
    callboard_servers::page::run("who-may-write-what.md", "Files", &variables, &[]).await;
    let server = |command: &mut Command| {
        if is_root() {
            command.uid(NOBODY).gid(SERVERS);
        }
    };
    let watcher = watcher(&root, Duration::from_millis(50));
    let mut registers = Other::start_as(&root, "a", 1, |command| {
        server(command);
        command
    });
    assert_eq!(registers.says(), "registered");
    watcher.until_ids(SOON, "registered", &["a"]).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!([&root, &root.join("project")].map(|path| mode(path)), [0o755, 0o755]);
    assert_eq!(mode(&root.join("project/test")), 0o2775);
    assert_eq!(fs::metadata(root.join("project/test")).unwrap().gid(), group);
    if is_root() {
        let mut watches = Other::start_as(&root, "@watch", 0, as_nobody);
        assert_eq!(watches.says(), r#"Some(["a"]) None"#);
        for what in ["b", "@config"] {
            assert_eq!(Other::start_as(&root, what, 1, as_nobody).says(), "Denied", "{what}");
        }
    }
}
