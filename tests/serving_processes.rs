//! Servers that need a process of their own: each is this program again, as the test `the_server`.
#![cfg(target_os = "linux")]
// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard::{Incoming, RegistrationState, Serve, Serving};
use common::{PATIENCE, Stage, in_time};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What says to `the_server` where its registry is: hosts with commas between. If it is empty, it listens on loopback alone.
const HOST: &str = "CALLBOARD_SERVING_TEST";
/// An address of a machine that has nothing but loopback otherwise.
const OWN: &str = "10.9.9.9";

#[test]
#[ignore = "the server of the tests beside it, which start it"]
fn the_server() {
    let Ok(host) = std::env::var(HOST) else { return };
    tracing_subscriber::fmt().with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::new();
        let at = if host.is_empty() { "127.0.0.1:0" } else { "0.0.0.0:0" };
        let listener = TcpListener::bind(at).await.unwrap();
        println!("\nserves {}", listener.local_addr().unwrap());
        let (_health, health_service) = tonic_health::server::health_reporter();
        let serving = Serve::new(Arc::new(stage.board.clone()), stage.service.clone())
            .registry_hosts(host.split(',').filter(|host| !host.is_empty()))
            .deregister_delay(Duration::ZERO)
            .start(listener, |listener, shutdown| {
                let server = Server::builder().add_service(health_service);
                server.serve_with_incoming_shutdown(Incoming::new(listener), shutdown)
            })
            .unwrap();
        let ((), ended) = tokio::join!(say(&serving), serving.ended());
        ended.expect("it has been asked to stop");
    });
}

/// Says what keeps it off the board, until it is there or has left.
async fn say(serving: &Serving) {
    let mut state = serving.watch_state();
    loop {
        match &*state.borrow_and_update() {
            RegistrationState::Registering { error: Some(error), .. } => println!("\ncannot yet: {error}"),
            RegistrationState::Registered { .. } => {
                println!("\nis on the board at {}", serving.instance().expect("it is known").address());
                return;
            }
            RegistrationState::Deregistered { .. } => return,
            _ => {}
        }
        state.changed().await.unwrap();
    }
}

/// Another process, which is killed when this is dropped.
struct Process {
    child: Child,
    /// Whether the server is the only child of this one.
    is_parent: bool,
    says: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(mut command: Command, host: &str, is_parent: bool) -> Self {
        command.arg(std::env::current_exe().unwrap()).args(["--exact", "the_server", "--ignored", "--nocapture"]);
        command.env(HOST, host).env("CALLBOARD_ADVERTISE", "").env("POD_IP", "");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, is_parent, says }
    }

    fn plain() -> Self {
        Self::start(Command::new("env"), "", false)
    }

    /// Process 1 of spaces of its own, where this has been done before.
    fn first(spaces: &[&str], before: &str, host: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "--kill-child"]).args(spaces);
        command.args(["sh", "-e", "-c", &format!("{before}\nexec \"$@\""), "sh"]);
        Self::start(command, host, true)
    }

    /// Waits until it says this, and tells what follows on the line.
    async fn says(&mut self, what: &str) -> String {
        let mut said = Vec::new();
        let waited = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = self.says.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once(what) {
                    return Some(rest.trim().to_owned());
                }
                said.push(line);
            }
            None
        });
        let found = waited.await.ok().flatten();
        found.unwrap_or_else(|| panic!("it does not say {what:?} but {said:#?}"))
    }

    /// The server's number, as this process sees it.
    fn pid(&self) -> Pid {
        let id = self.child.id().expect("it runs").cast_signed();
        if !self.is_parent {
            return Pid::from_raw(id).unwrap();
        }
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Pid::from_raw(children.trim().parse().expect("one child")).unwrap()
    }

    async fn terminate(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        in_time(self.child.wait()).await.unwrap()
    }
}

/// A name server that hears questions and never answers.
struct SilentNames(UdpSocket);

impl SilentNames {
    /// Where no other one listens.
    fn new() -> Self {
        let socket = (1..=255).find_map(|last| UdpSocket::bind((format!("127.53.53.{last}"), 53)).ok());
        let socket = socket.expect("a free address in 127.53.53.0/24, and the right to bind port 53");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn resolv_conf(&self) -> String {
        format!("nameserver {}\noptions timeout:20 attempts:2\n", self.0.local_addr().unwrap().ip())
    }

    /// Waits until it is asked.
    fn asked(&self) {
        self.0.recv(&mut [0; 512]).expect("a question");
    }
}

/// The system does not end a process 1 by a signal that it does not handle.
#[tokio::test]
#[ignore = "needs namespaces, so root on Linux: make test"]
async fn in_a_namespace_sigterm_ends_process_1_while_its_registry_s_name_is_looked_up() {
    let (names, files) = (SilentNames::new(), TempDir::new().unwrap());
    let file = files.path().join("resolv.conf");
    fs::write(&file, names.resolv_conf()).unwrap();
    let server = Process::first(&[], &format!("mount --bind {} /etc/resolv.conf", file.display()), "registry.example");
    names.asked();
    let begun = Instant::now();
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    // The system goes on asking for 40 s.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
#[ignore = "needs namespaces, so root on Linux: make test"]
async fn in_a_namespace_a_server_is_announced_once_its_registry_s_name_is_known() {
    let files = TempDir::new().unwrap();
    let hosts = files.path().join("hosts");
    fs::write(&hosts, "").unwrap();
    let prepare =
        format!("ip link set lo up\nip address add {OWN}/32 dev lo\nmount --bind {} /etc/hosts", hosts.display());
    let mut server = Process::first(&["--net"], &prepare, "registry.example:2379");
    let port = server.says("serves 0.0.0.0:").await;
    let unknown = server.says("cannot yet: ").await;
    assert!(unknown.contains("registry.example: cannot look it up"), "{unknown}");
    // For all that the server can know, there is a tunnel.
    fs::write(&hosts, "127.0.0.1 registry.example\n").unwrap();
    server.says("registry.example: the way there is loopback").await;
    fs::write(&hosts, format!("{OWN} registry.example\n")).unwrap();
    assert_eq!(server.says("is on the board at ").await, format!("{OWN}:{port}"));
    assert!(server.terminate().await.success());
}

#[tokio::test]
#[ignore = "needs namespaces, so root on Linux: make test"]
async fn in_a_namespace_a_name_that_nobody_answers_for_holds_up_no_other() {
    let files = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        format!("mount --bind {} /etc/{name}", path.display())
    };
    let hosts = file("hosts", &format!("{OWN} registry.example\n"));
    // What is sent there comes back, and is for nobody.
    let names = file("resolv.conf", "nameserver 10.9.8.1\noptions timeout:20 attempts:2\n");
    let network = format!("ip link set lo up\nip address add {OWN}/32 dev lo\nip route add 10.9.8.0/24 dev lo");
    let prepare = format!("{network}\n{hosts}\n{names}");
    let mut server = Process::first(&["--net"], &prepare, "silent.example,registry.example");
    let port = server.says("serves 0.0.0.0:").await;
    let begun = Instant::now();
    assert_eq!(server.says("is on the board at ").await, format!("{OWN}:{port}"));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(server.terminate().await.success());
}

/// What all threads of a process have had of the processors.
fn cpu(pid: Pid) -> Duration {
    let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())).unwrap();
    let of_one = |path: std::path::PathBuf| {
        let times = fs::read_to_string(path.join("schedstat")).unwrap();
        Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
    };
    threads.map(|thread| of_one(thread.unwrap().path())).sum()
}

#[tokio::test]
async fn a_server_without_file_descriptors_waits_for_some_and_accepts_again() {
    let mut server = Process::plain();
    let address = server.says("serves ").await;
    let pid = server.pid();
    let connected = async || {
        let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
        HealthClient::new(channel)
    };
    let mut before = in_time(connected()).await;
    in_time(before.check(HealthCheckRequest::default())).await.unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + 4), maximum: Some(open + 4) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    let mut connections = Vec::new();
    for _ in 0..16 {
        connections.push(in_time(TcpStream::connect(&address)).await.unwrap());
    }
    let said = server.says("cannot accept connections").await;
    assert!(said.contains(&address) && said.contains("Too many open files"), "{said}");

    let used = cpu(pid);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = cpu(pid) - used;
    println!("{used:?} of CPU in 3 s without file descriptors");
    assert!(used < Duration::from_millis(100), "{used:?}");
    in_time(before.check(HealthCheckRequest::default())).await.expect("who is connected is served");

    drop(connections);
    server.says("accepting connections again").await;
    let mut after = in_time(connected()).await;
    in_time(after.check(HealthCheckRequest::default())).await.unwrap();
    drop((before, after));
    assert!(server.terminate().await.success());
}
