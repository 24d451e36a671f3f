//! Puts an instance on the board in ZooKeeper and tells how it stands, until it is ended.
//!
//! ```text
//! cargo run -p callboard-zookeeper --example announce_in_zookeeper -- zookeeper://127.0.0.1:2181/project/test 127.0.0.1:50051
//! ```

use std::sync::Arc;

use callboard_core::{AnnounceSettings, Error, Instance, Result, Target, announce};
use callboard_zookeeper::ZooKeeper;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(address)) = (args.next(), args.next()) else {
        return Err(Error::invalid("usage: announce_in_zookeeper URL ADDRESS"));
    };
    let target: Target = url.parse()?;
    let mut options = target.options();
    let zookeeper = ZooKeeper::from_target(&target, &mut options)?;
    options.finish()?;
    let instance = Instance::at(address.parse()?)?;
    let announcement = announce(Arc::new(zookeeper), &target.service()?, instance, AnnounceSettings::default());
    let mut states = announcement.watch();
    loop {
        println!("{:?}", *states.borrow_and_update());
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return Ok(()) },
            _ = tokio::signal::ctrl_c() => return announcement.leave().await,
        }
    }
}
