//! Three servers of one kind, and channels to them.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use callboard::{Channel, ChannelBuilder, Registration, Tls};
use callboard_interop::{Counts, InteropServer, Settings};
use callboard_raw::Port;
use callboard_tls_tests::{Authority, NAME, Pair};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::common::{Stage, in_time};
use crate::grpc_go::{self, Program};

const IDS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tonic,
    GrpcGo,
}

/// How servers are set up.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub name: &'static str,
    pub tls: bool,
    pub max_streams: Option<u32>,
}

/// MAX_CONCURRENT_STREAMS where it is small.
const FEW: Option<u32> = Some(5);

pub const PLAIN: Mode = Mode { name: "plain", tls: false, max_streams: None };
pub const TLS: Mode = Mode { name: "TLS", tls: true, max_streams: None };
pub const MODES: [Mode; 4] = [
    PLAIN,
    TLS,
    Mode { name: "5 streams", tls: false, max_streams: FEW },
    Mode { name: "TLS, 5 streams", tls: true, max_streams: FEW },
];

enum Server {
    Tonic(InteropServer),
    GrpcGo(Box<Program>),
}

pub struct Fleet {
    pub kind: Kind,
    stage: Stage,
    tls: Option<Tls>,
    files: TempDir,
    settings: Vec<Settings>,
    servers: Mutex<Vec<Server>>,
    _ports: Vec<Port>,
    _registrations: Vec<Registration>,
}

impl Fleet {
    /// Starts three servers, and signs them in.
    pub async fn start(kind: Kind, mode: Mode) -> Arc<Self> {
        let (stage, files, ports) = (Stage::new(), TempDir::new().unwrap(), IDS.map(|_| Port::free().unwrap()));
        let secured = mode.tls.then(|| secured(&files));
        let settings = IDS.iter().zip(&ports).map(|(id, port)| Settings {
            address: port.address(),
            max_streams: mode.max_streams,
            tls: secured.as_ref().map(|(_, pair)| (pair.certificate.clone(), pair.key.clone())),
            ..Settings::new(*id)
        });
        let settings: Vec<_> = settings.collect();
        let (mut servers, mut registrations) = (Vec::new(), Vec::new());
        for settings in &settings {
            servers.push(start(kind, settings, &files).await);
            registrations.push(stage.sign_in(&settings.id, settings.address.try_into().unwrap(), 1).await);
        }
        Arc::new(Self {
            kind,
            stage,
            tls: secured.map(|(tls, _)| tls),
            files,
            settings,
            servers: Mutex::new(servers),
            _ports: ports.into(),
            _registrations: registrations,
        })
    }

    /// The builder of a channel to the three.
    pub fn builder(&self) -> ChannelBuilder {
        match &self.tls {
            Some(tls) => self.stage.builder().tls(tls.clone()),
            None => self.stage.builder(),
        }
    }

    /// A channel, once so many of the three are ready.
    pub async fn channel(&self, builder: ChannelBuilder, ready: usize) -> Channel {
        self.stage.channel(builder, ready).await
    }

    /// What the three have seen since they were started.
    pub async fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for server in self.servers.lock().await.iter_mut() {
            let counts = server.counts().await;
            sum = Counts { begun: sum.begun + counts.begun, cancelled: sum.cancelled + counts.cancelled };
        }
        sum
    }

    /// Stops the last of the three gracefully once it has been called, and starts it again at its address.
    pub async fn restart_once_called(&self) {
        let mut servers = self.servers.lock().await;
        let mut server = servers.pop().unwrap();
        in_time(async {
            while server.counts().await.begun == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        server.stop().await;
        servers.push(start(self.kind, self.settings.last().unwrap(), &self.files).await);
    }
}

impl Server {
    async fn counts(&mut self) -> Counts {
        match self {
            Self::Tonic(server) => server.counts(),
            Self::GrpcGo(program) => {
                program.order("counts").await;
                let told = program.told("counts").await;
                let (begun, cancelled) = told.split_once(' ').unwrap();
                Counts { begun: begun.parse().unwrap(), cancelled: cancelled.parse().unwrap() }
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Tonic(server) => in_time(server.stop()).await.unwrap(),
            Self::GrpcGo(mut program) => {
                program.order("stop").await;
                assert_eq!(program.answer().await, "stopped");
            }
        }
    }
}

/// What a channel needs in order to trust a certificate, and the certificate, which lies in files as well.
fn secured(files: &TempDir) -> (Tls, Pair) {
    let authority = Authority::new("ours").unwrap();
    let pair = authority.issue(|_| {}).unwrap();
    std::fs::write(files.path().join("certificate.pem"), &pair.certificate).unwrap();
    std::fs::write(files.path().join("key.pem"), &pair.key).unwrap();
    (Tls::with_ca(&authority.pem).unwrap().server_name(NAME), pair)
}

async fn start(kind: Kind, settings: &Settings, files: &TempDir) -> Server {
    if kind == Kind::Tonic {
        return Server::Tonic(InteropServer::start(settings).await.unwrap());
    }
    // Building blocks, and other tests go on meanwhile.
    let program = tokio::task::spawn_blocking(|| grpc_go::build("interop_server")).await.unwrap();
    let mut command = Command::new(program);
    command.args(["-id", &settings.id, "-listen", &settings.address.to_string()]);
    command.args(["-streams", &settings.max_streams.unwrap_or_default().to_string()]);
    if settings.tls.is_some() {
        command.arg("-certificate").arg(files.path().join("certificate.pem"));
        command.arg("-key").arg(files.path().join("key.pem"));
    }
    let mut program = Program::start(command.into());
    assert_eq!(program.first_answer().await, settings.address.to_string());
    Server::GrpcGo(Box::new(program))
}
