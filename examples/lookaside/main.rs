//! An external balancer for the service that a URL names. It watches the service's registry, and shares calls out by
//! the weights there and by the load that servers report. It registers itself as a balancer, so every client uses it:
//!
//! ```text
//! cargo run --example lookaside -- "file:///project/test?root=$PWD/target/registry" --listen 127.0.0.1:41300
//! ```
//!
//! It prints `balancing 127.0.0.1:41300` once it listens, and each second how many calls clients reported, if they
//! reported any. At Ctrl-C it deregisters and ends its streams; clients go on with its last list. Clients of grpc-go,
//! Java and C++ can use it as well: the protocol is gRPC's grpclb.

mod list;
mod load;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use callboard::lookaside::v1::LoadBalanceResponse;
use callboard::lookaside::{Answers, Asked, LoadBalancerServer};
use callboard::{InstanceKind, WatchSettings, resolver, serve, watch};
use futures_util::{StreamExt, stream};
use lexopt::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::Server;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The latest list. When it is dropped, all streams end.
type Lists = watch::Receiver<LoadBalanceResponse>;

#[tokio::main]
async fn main() -> Result<()> {
    let (url, listen) = options()?;
    let (resolver, service) = resolver(&url)?;
    let calls = Arc::<AtomicI64>::default();
    let (say, lists) = watch::channel(LoadBalanceResponse::default());

    // This task makes a list whenever the registry or the load changes.
    let listening = load::listen(Arc::clone(&resolver), &service)?;
    let counted = Arc::clone(&calls);
    let mut watcher = watch(resolver, &service, WatchSettings::default());
    let weigh = async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = watcher.changed() => {}
                _ = second.tick() => match counted.swap(0, Ordering::Relaxed) {
                    0 => {}
                    calls => println!("{calls} calls reported"),
                },
            }
            let Some(instances) = &watcher.resolution().instances else { continue };
            let list = LoadBalanceResponse::servers(list::of(&load::weighed(instances, &listening)));
            say.send_if_modified(|last| std::mem::replace(last, list.clone()) != list);
        }
    };

    let answer = move |asked: Asked| match asked.name() == service.as_str() {
        true => Ok(answers(asked, lists.clone(), Arc::clone(&calls))),
        false => Err(Status::not_found(format!("this balancer is for {service}, not for {:?}", asked.name()))),
    };
    let balancer = LoadBalancerServer::new(Duration::from_millis(500), answer);
    let listener = TcpListener::bind(listen).await?;
    println!("balancing {}", listener.local_addr()?);
    serve(&url)?
        .instance(|instance| instance.with_kind(InstanceKind::Balancer))
        .run(listener, |listener, shutdown| {
            // The lists end at shutdown, and with them the streams, which have no end of their own.
            let weighing = async {
                tokio::select! { () = weigh => {}, () = shutdown => {} }
            };
            let server = Server::builder().add_service(balancer);
            server.serve_with_incoming_shutdown(callboard::Incoming::new(listener), weighing)
        })
        .await?;
    Ok(())
}

/// The stream of lists for one client. Its reports are counted.
fn answers(asked: Asked, lists: Lists, calls: Arc<AtomicI64>) -> Answers {
    let mut reports = asked.into_reports();
    tokio::spawn(async move {
        while let Some(stats) = reports.next().await {
            calls.fetch_add(stats.num_calls_started, Ordering::Relaxed);
        }
    });
    let next = |mut lists: Lists| async move {
        lists.changed().await.ok()?;
        let list = lists.borrow_and_update().clone();
        Some((list, lists))
    };
    // A later client begins with the current list.
    let mut lists = lists;
    lists.mark_changed();
    stream::unfold(lists, next).filter(|list| std::future::ready(list.load_balance_response_type.is_some())).boxed()
}

fn options() -> Result<(String, SocketAddr)> {
    let (mut url, mut listen) = (None, SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => listen = arguments.value()?.parse()?,
            Value(value) if url.is_none() => url = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((url.ok_or("usage: lookaside URL [--listen HOST:PORT]")?, listen))
}
