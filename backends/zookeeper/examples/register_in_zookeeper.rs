//! Registers an instance in ZooKeeper and prints its state, until it is interrupted.
//!
//! ```text
//! cargo run -p callboard-zookeeper --example register_in_zookeeper -- zookeeper://127.0.0.1:2181/project/test 127.0.0.1:50051
//! ```

use std::sync::Arc;

use callboard_core::{Error, Instance, RegistrationSettings, Result, Target, register};
use callboard_zookeeper::ZooKeeper;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(address)) = (args.next(), args.next()) else {
        return Err(Error::invalid("usage: register_in_zookeeper URL ADDRESS"));
    };
    let target: Target = url.parse()?;
    let mut options = target.options();
    let zookeeper = ZooKeeper::from_target(&target, &mut options)?;
    options.finish()?;
    let instance = Instance::at(address.parse()?)?;
    let registration = register(Arc::new(zookeeper), &target.service()?, instance, RegistrationSettings::default());
    let mut states = registration.watch_state();
    loop {
        println!("{:?}", *states.borrow_and_update());
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return Ok(()) },
            _ = tokio::signal::ctrl_c() => return registration.deregister().await,
        }
    }
}
