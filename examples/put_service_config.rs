//! Puts, shows or removes the config of a service, in any registry that is compiled in:
//!
//! ```text
//! cargo run --features etcd --example put_service_config -- etcd://127.0.0.1:2379/project/test '{"loadBalancingConfig":[{"weighted":{}}]}'
//! cargo run --features etcd --example put_service_config -- etcd://127.0.0.1:2379/project/test
//! cargo run --features etcd --example put_service_config -- etcd://127.0.0.1:2379/project/test --remove
//! ```

use std::{error::Error, time::Duration};

use callboard::{ConfigStatus, ConnectivityState, ServiceConfig, dial, put_service_config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [url] => show(url).await?,
        [url, "--remove"] => put_service_config(url, None).await?,
        [url, json] => {
            // It would be put all the same: gRPC ignores unknown fields.
            let misspelt = ServiceConfig::parse(json.as_bytes())?.misspelt;
            if !misspelt.is_empty() {
                return Err(format!("the config has fields that mean nothing: {}", misspelt.join(", ")).into());
            }
            put_service_config(url, Some(json)).await?;
        }
        _ => return Err("usage: put_service_config URL [JSON | --remove]".into()),
    }
    Ok(())
}

/// Shows the config as a channel sees it.
async fn show(url: &str) -> Result<(), Box<dyn Error>> {
    let channel = dial(url).await?;
    let mut state = channel.watch_state();
    // Once the channel is more than connecting, the registry has answered or cannot be reached, or the servers hang.
    let known = state.wait_for(|state| *state != ConnectivityState::Connecting);
    let _ = tokio::time::timeout(Duration::from_secs(10), known).await;
    if let Some(stale) = channel.stale() {
        return Err(stale.error.chain().into());
    }
    let ConfigStatus { active, rejected: refused, balancer, .. } = channel.service_config();
    match (active, refused) {
        (_, Some(error)) => println!("refused: {}", error.chain()),
        (Some(text), None) => println!("{text}"),
        (None, None) => println!("none; by default the balancer is {balancer}"),
    }
    Ok(())
}
