//! The query keys about calls, which are the same for every scheme.

use callboard_core::{BalancerSettings, Result, TargetOptions};

use super::Balancers;
use crate::ChannelBuilder;

/// All of these keys.
const KEYS: [&str; 9] = [
    "balancer",
    "shuffle",
    "service_config",
    "timeout",
    "wait_for_ready",
    "connect_timeout",
    "external_balancers",
    "max_instances",
    "max_dials",
];

/// Accepts the keys without reading them. For servers, so that one URL serves both sides.
pub(super) fn pass_over(options: &mut TargetOptions<'_>) {
    for key in KEYS {
        options.text(key);
    }
}

/// Applies the keys to a builder.
pub(super) fn apply(
    mut builder: ChannelBuilder,
    balancers: &Balancers,
    options: &mut TargetOptions<'_>,
) -> Result<ChannelBuilder> {
    if let Some(name) = options.text("balancer") {
        builder = builder.balancer(balancers.make(name, &settings_in(name, options)?)?);
    }
    if let Some(obey) = options.flag("service_config")? {
        builder = builder.service_config(obey);
    }
    if let Some(timeout) = options.duration("timeout")? {
        builder = builder.timeout(timeout);
    }
    if let Some(wait) = options.flag("wait_for_ready")? {
        builder = builder.wait_for_ready(wait);
    }
    if let Some(timeout) = options.duration("connect_timeout")? {
        builder = builder.connect_timeout(timeout);
    }
    if let Some(asked) = options.flag("external_balancers")? {
        builder = builder.external_balancers(asked);
    }
    if let Some(most) = count("max_instances", options)? {
        builder = builder.max_instances(most);
    }
    if let Some(most) = count("max_dials", options)? {
        builder = builder.max_dials(most);
    }
    Ok(builder)
}

/// Reads a count, which must be at least 1.
fn count(key: &'static str, options: &mut TargetOptions<'_>) -> Result<Option<usize>> {
    match options.number(key)? {
        Some(0) => Err(options.invalid(key, "at least 1")),
        count => Ok(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX))),
    }
}

/// The settings of a balancer, from the URL's keys for it.
fn settings_in(balancer: &str, options: &mut TargetOptions<'_>) -> Result<BalancerSettings> {
    match balancer {
        "pick_first" => {
            let shuffle = options.flag("shuffle")?.unwrap_or_default();
            BalancerSettings::parse(balancer, &format!(r#"{{"shuffleAddressList": {shuffle}}}"#))
        }
        _ => Ok(BalancerSettings::new(balancer)),
    }
}
