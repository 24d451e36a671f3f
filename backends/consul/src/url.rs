//! Where the agent is, and what a dial URL and the environment say about it.

use std::path::PathBuf;

use callboard_core::{Error, RegistryTls, Result, Target, TargetOptions};
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::builder::ConsulBuilder;
use crate::checks::ConsulGrpcCheck;

/// Where the agent's HTTP API is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Url(Url),
    Socket(PathBuf),
}

impl Place {
    /// Reads `host`, `host:port`, `http://host:port`, `https://host:port` or `unix:///path`.
    ///
    /// # Errors
    /// `Invalid`, with the text, in which no login has been accepted.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(format!("agent's address: {why} (expected host:port, https://host:port or unix:///path)"))
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Socket(path.into()))
            } else {
                Err(invalid("the path is not absolute"))
            };
        }
        if text.contains('@') {
            return Err(invalid("it has a login; the token is given apart from it"));
        }
        let (text, tls) = match text.split_once("://") {
            Some(("https", rest)) => (rest, true),
            Some(("http", rest)) if !tls => (rest, false),
            Some(("http", _)) => return Err(invalid("it begins with http:// and TLS is asked for")),
            Some(_) => return Err(invalid("it begins with something other than http://, https:// and unix://")),
            None => (text, tls),
        };
        let scheme = if tls { "https" } else { "http" };
        let mut url = Url::parse(&format!("{scheme}://{text}")).map_err(|error| invalid(&error.to_string()))?;
        // A port that is the scheme's own is not kept by the URL, and is not Consul's.
        let bare = text.split('/').next().unwrap_or(text);
        let named =
            bare.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if !named {
            let port = if tls { 8501 } else { 8500 };
            url.set_port(Some(port)).map_err(|()| invalid("it has no host"))?;
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query"));
        }
        Ok(Self::Url(url))
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Url(url) if url.scheme() == "https")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_consuls_own_ports() {
        for (text, tls, url) in [
            ("127.0.0.1:8500", false, "http://127.0.0.1:8500/"),
            ("consul.internal", false, "http://consul.internal:8500/"),
            ("consul.internal", true, "https://consul.internal:8501/"),
            ("consul.internal:443", true, "https://consul.internal/"),
            ("https://consul.internal", false, "https://consul.internal:8501/"),
            ("http://[::1]:80", false, "http://[::1]/"),
            ("[::1]", false, "http://[::1]:8500/"),
            ("https://host:1/behind/a/proxy", false, "https://host:1/behind/a/proxy"),
        ] {
            let Place::Url(read) = Place::parse(text, tls).unwrap() else { panic!("{text} is no socket") };
            assert_eq!(read.as_str(), url, "{text}");
        }
        assert!(
            matches!(Place::parse("unix:///run/consul.sock", false), Ok(Place::Socket(path)) if path.ends_with("consul.sock"))
        );
    }

    #[test]
    fn a_bad_address_is_refused_and_no_login_is_quoted() {
        for (text, tls, why) in [
            ("", false, "host"),
            ("ftp://a", false, "begins with something other"),
            ("http://a", true, "TLS is asked for"),
            ("unix://relative", false, "not absolute"),
            ("a:x", false, "port"),
            ("https://hunter2@a", false, "a login"),
            ("a?dc=b", false, "a query"),
        ] {
            let error = Place::parse(text, tls).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
