//! The settings in a dial URL.

use callboard_core::{Error, RegistryTls, Result, Target, TargetOptions};
use percent_encoding::percent_decode_str;

use crate::builder::ConsulBuilder;
use crate::error::BACKEND;
use crate::record::ConsulGrpcCheck;
use crate::registry::Consul;

impl Consul {
    /// Reads the settings from a dial URL, such as `consul://127.0.0.1:8500/project-test?dc=dc1&ttl=15s`. The crate's
    /// own page lists the keys. The service in the URL is not looked at here.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the part of the URL, or the key and what is expected.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        builder(target, options).map_err(|error| error.in_backend(BACKEND))?.build()
    }
}

/// The settings that a dial URL holds.
///
/// # Errors
/// `Invalid`, naming the part, or the key and its value.
pub(crate) fn builder(target: &Target, options: &mut TargetOptions<'_>) -> Result<ConsulBuilder> {
    let mut builder = ConsulBuilder::default();
    match target.hosts() {
        [] => {}
        [host] => builder = builder.address(address(host)?),
        _ => {
            return Err(Error::invalid(
                "URL: several hosts; Consul is reached through one agent, the one on this host",
            ));
        }
    }
    builder = match (target.user(), target.password()) {
        (None, None) => builder,
        (Some(token), None) | (None, Some(token)) => builder.token(token),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("URL: a user and a password; Consul takes a token: consul://token@host"));
        }
    };
    if let Some(token) = options.text("token") {
        builder = builder.token(token);
    }
    if let Some(tls) = RegistryTls::from_options(options)? {
        builder = builder.tls(tls);
    }
    if let Some(connections) = options.number("connections")? {
        builder = builder.connections(usize::try_from(connections).unwrap_or(usize::MAX));
    }
    builder = watching(builder, options)?;
    registering(builder, options)
}

/// A host of a URL, or a socket's path as one: `%2Frun%2Fconsul.sock`.
fn address(host: &str) -> Result<String> {
    let host = percent_decode_str(host).decode_utf8().map_err(|_| Error::invalid("URL: the host is not UTF-8"))?;
    Ok(if host.starts_with('/') { format!("unix://{host}") } else { host.into_owned() })
}

fn watching(mut builder: ConsulBuilder, options: &mut TargetOptions<'_>) -> Result<ConsulBuilder> {
    if let Some(name) = options.text("dc") {
        builder = builder.datacenter(name);
    }
    if let Some(name) = options.text("ns") {
        builder = builder.namespace(name);
    }
    if let Some(name) = options.text("partition") {
        builder = builder.partition(name);
    }
    for tag in options.text("tag").into_iter().flat_map(|tags| tags.split(',')) {
        builder = builder.tag(tag);
    }
    if let Some(expression) = options.text("filter") {
        builder = builder.filter(expression);
    }
    if let Some(node) = options.text("near") {
        builder = builder.near(node);
    }
    if let Some(stale) = options.flag("stale")? {
        builder = builder.stale(stale);
    }
    if let Some(passing) = options.flag("passing")? {
        builder = builder.only_passing(passing);
    }
    if let Some(wait) = options.duration("wait")? {
        builder = builder.wait(wait);
    }
    if let Some(config) = options.flag("config")? {
        builder = builder.config(config);
    }
    if let Some(prefix) = options.text("config_prefix") {
        builder = builder.config_prefix(prefix);
    }
    Ok(builder)
}

fn registering(mut builder: ConsulBuilder, options: &mut TargetOptions<'_>) -> Result<ConsulBuilder> {
    if let Some(ttl) = options.duration("ttl")? {
        builder = builder.ttl(ttl);
    }
    if let Some(after) = options.duration("deregister_after")? {
        builder = builder.deregister_after(after);
    }
    let mut grpc = ConsulGrpcCheck::default();
    if let Some(interval) = options.duration("grpc_interval")? {
        grpc = grpc.every(interval);
    }
    if let Some(tls) = options.flag("grpc_tls")? {
        grpc = grpc.tls(tls);
    }
    if let Some(name) = options.text("grpc_service") {
        grpc = grpc.service(name);
    }
    match options.text("check") {
        None | Some("ttl") => Ok(builder),
        Some("grpc") => Ok(builder.grpc_check(grpc).ttl_check(false)),
        Some("ttl,grpc" | "grpc,ttl") => Ok(builder.grpc_check(grpc)),
        Some(_) => Err(options.invalid("check", "ttl, grpc, or ttl,grpc")),
    }
}
