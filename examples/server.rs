//! A server of callboard's echo service, registered in any registry that is compiled in:
//!
//! ```text
//! cargo run --features etcd --example server -- etcd://127.0.0.1:2379/project/test --listen 127.0.0.1:0 [--weight 3] [--id a] [--delay 3s]
//! ```
//!
//! It prints `serving 127.0.0.1:41233` once it is registered. At Ctrl-C or SIGTERM it deregisters, goes on serving
//! until clients have seen that, and ends. Another signal, a second later, ends it at once. `RUST_LOG=callboard=info`
//! shows each step.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use callboard::{RegistrationState, Serve, Serving, serve};
use callboard_echo::EchoServer;
use lexopt::prelude::*;
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Options {
    url: String,
    listen: SocketAddr,
    weight: u32,
    id: Option<String>,
    delay: Duration,
}

fn options() -> Result<Options> {
    let (mut url, mut listen, mut weight, mut id) = (None, ([127, 0, 0, 1], 0).into(), 1, None);
    let mut delay = Serve::DEREGISTER_DELAY;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => listen = arguments.value()?.parse()?,
            Long("weight") => weight = arguments.value()?.parse()?,
            Long("id") => id = Some(arguments.value()?.string()?),
            Long("delay") => delay = arguments.value()?.parse_with(humantime::parse_duration)?,
            Value(value) if url.is_none() => url = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let url = url.ok_or("usage: server URL [--listen HOST:PORT] [--weight N] [--id ID] [--delay 3s]")?;
    Ok(Options { url, listen, weight, id, delay })
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
    let Options { url, listen, weight, id, delay } = options()?;

    // The server listens first and is then registered, so that no client is sent to a server that is not there yet.
    let listener = TcpListener::bind(listen).await?;
    let mut setup = serve(&url)?.instance(move |instance| instance.with_weight(weight)).deregister_delay(delay);
    let name = id.clone().unwrap_or_default();
    if let Some(id) = id {
        setup = setup.id(id);
    }
    let serving = setup.start(listener, |listener, shutdown| async {
        let server = EchoServer::start_on(name, listener, |tonic| tonic)?;
        shutdown.await;
        server.stop().await;
        io::Result::Ok(())
    })?;
    // It may be told to stop before it is registered, too.
    let ((), ended) = tokio::join!(say(&serving), serving.ended());
    Ok(ended?)
}

/// Prints a line once the server is registered.
async fn say(serving: &Serving) {
    let mut state = serving.watch_state();
    let known = |state: &RegistrationState| {
        matches!(state, RegistrationState::Registered { .. } | RegistrationState::Deregistered { .. })
    };
    let on_board = matches!(state.wait_for(known).await.as_deref(), Ok(RegistrationState::Registered { .. }));
    if let (true, Some(instance)) = (on_board, serving.instance()) {
        println!("serving {}", instance.address());
    }
}
