//! A backend of your own: a hosts file, with one `address weight` in each line, which is read again and again. Editing
//! it moves the calls. (A backend for `register` would also implement `Registry` and `Lease`.)

use std::{error::Error, fs, io, path::PathBuf, time::Duration};

use callboard::{Dialer, ErrorKind, Instance, Resolver, Result, ServiceName, Snapshot, Snapshots};
use callboard_echo::{EchoServer, client, pb::EchoRequest};
use futures_util::{StreamExt, stream};

#[derive(Clone, Debug)]
struct Hosts {
    file: PathBuf,
    every: Duration,
}

impl Resolver for Hosts {
    /// Yields complete sets: the first at once, then one after each pause. This is one attempt, which ends with the
    /// first error. callboard makes the next one, for ever, and keeps the last good set in the meantime.
    fn watch(&self, _: &ServiceName) -> Snapshots {
        stream::try_unfold((Duration::ZERO, self.clone()), |(pause, hosts)| async move {
            tokio::time::sleep(pause).await;
            let text = tokio::fs::read_to_string(&hosts.file).await.map_err(unreadable)?;
            Ok(Some((set(&text), (hosts.every, hosts))))
        })
        .boxed()
    }
}

fn unreadable(error: io::Error) -> callboard::Error {
    callboard::Error::new(ErrorKind::Unavailable, "cannot read the file").in_backend("hosts").with_source(error)
}

/// An invalid line is skipped and counted. It never fails the set.
fn set(text: &str) -> Snapshot {
    let (good, bad): (Vec<_>, Vec<_>) = text.lines().map(instance).partition(Result::is_ok);
    let mut set = Snapshot::new(good.into_iter().flatten());
    set.skipped = bad.len();
    set
}

fn instance(line: &str) -> Result<Instance> {
    let (address, weight) = line.split_once(' ').unwrap_or((line, "1"));
    let weight = weight.trim().parse().map_err(|error| callboard::Error::invalid("weight").with_source(error))?;
    Ok(Instance::at(address.parse()?)?.with_weight(weight))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (a, b) = (EchoServer::start("a").await?, EchoServer::start("b").await?);
    let file = std::env::temp_dir().join(format!("callboard-hosts-{}", std::process::id()));
    let draft = file.with_extension("draft");
    // The file is renamed, so that a reader never sees a part of it.
    let edit = |text: String| fs::write(&draft, text).and_then(|()| fs::rename(&draft, &file));
    edit(a.address().to_string())?;

    let dialer = Dialer::new().resolver("hosts", Hosts { file: file.clone(), every: Duration::from_millis(100) });
    let channel = dialer.dial("hosts:///example/echo?balancer=weighted&timeout=5s&wait_for_ready").await?;
    let mut client = client(channel);
    println!("the file has a alone: {} answers", client.unary(EchoRequest::default()).await?.into_inner().server);

    edit(format!("{} 3\nwhat is this?\n{} 1\n", a.address(), b.address()))?;
    tokio::time::timeout(Duration::from_secs(5), async {
        while client.unary(EchoRequest::default()).await?.into_inner().server != "b" {}
        Ok::<_, tonic::Status>(())
    })
    .await??;
    fs::remove_file(&file)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = b.calls();
    for _ in 0..400 {
        client.unary(EchoRequest::default()).await?;
    }
    println!("a has weight 3, b 1, and the file is gone: of 400 calls b has answered {}", b.calls() - before);
    assert_eq!(b.calls() - before, 100, "b has a quarter");
    Ok(())
}
