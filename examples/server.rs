//! A server of callboard's echo service that signs in on the board of any registry that is compiled in:
//!
//! ```text
//! cargo run --features etcd --example server -- etcd://127.0.0.1:2379/project/test --listen 127.0.0.1:0 [--weight 3] [--id a]
//! ```
//!
//! It prints `serving 127.0.0.1:41233` once it is on the board. Ctrl-C or SIGTERM makes it leave the board, go on serving
//! while that gets around, and end; a second one ends it at once. `RUST_LOG=callboard=debug` shows what it does meanwhile.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use callboard::{AnnounceSettings, Announcement, AnnouncementState, Instance, announce, registry};
use callboard_echo::EchoServer;
use lexopt::prelude::*;
use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a server that has left is still called: until the last client has heard of it.
const LINGER: Duration = Duration::from_secs(1);

struct Options {
    url: String,
    listen: SocketAddr,
    weight: u32,
    id: Option<String>,
}

fn options() -> Result<Options> {
    let (mut url, mut listen, mut weight, mut id) = (None, ([127, 0, 0, 1], 0).into(), 1, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => listen = arguments.value()?.parse()?,
            Long("weight") => weight = arguments.value()?.parse()?,
            Long("id") => id = Some(arguments.value()?.string()?),
            Value(value) if url.is_none() => url = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let url = url.ok_or("usage: server URL [--listen HOST:PORT] [--weight N] [--id ID]")?;
    Ok(Options { url, listen, weight, id })
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let Options { url, listen, weight, id } = options()?;
    let (registry, service) = registry(&url)?;

    // First it listens, then it signs in: nobody is sent to a server that is not there yet.
    let server = EchoServer::start_at(id.clone().unwrap_or_default(), listen).await?;
    let address = server.address();
    let instance = match id {
        Some(id) => Instance::new(id, address.to_string().parse()?)?,
        None => Instance::at(address.to_string().parse()?)?,
    };
    let announcement = announce(registry, &service, instance.weight(weight), AnnounceSettings::default());

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        ended = serve(&announcement, address) => ended?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::select! {
        () = leave(announcement, server) => Ok(()),
        _ = interrupt.recv() => Err("interrupted a second time: ended without leaving".into()),
        _ = terminate.recv() => Err("terminated a second time: ended without leaving".into()),
    }
}

/// Says when it is on the board. Returns only if it is off it for good: somebody else has taken its id.
async fn serve(announcement: &Announcement, address: SocketAddr) -> Result<()> {
    let mut state = announcement.watch();
    state.wait_for(|state| matches!(state, AnnouncementState::OnBoard { .. } | AnnouncementState::Left { .. })).await?;
    if matches!(announcement.state(), AnnouncementState::OnBoard { .. }) {
        println!("serving {address}");
    }
    state.wait_for(|state| matches!(state, AnnouncementState::Left { .. })).await?;
    let AnnouncementState::Left { error: Some(error), .. } = announcement.state() else { return Ok(()) };
    Err(error.into())
}

/// Off the board first, then out of the way.
async fn leave(announcement: Announcement, server: EchoServer) {
    if let Err(error) = announcement.leave().await {
        eprintln!("still on the board, until its lease ends: {}", error.chain());
    }
    tokio::time::sleep(LINGER).await;
    server.stop().await;
}
