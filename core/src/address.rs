//! Where an instance can be reached.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Result};

/// Where an instance can be reached: `host:port`, `[v6]:port` or `unix:/path`.
///
/// The host is an IP address or a name that the client resolves. An unspecified IP address (`0.0.0.0`, `[::]`) and
/// port 0 are where a server listens, not where it can be reached, and are refused.
///
/// [`Display`](fmt::Display) prints the form that [`FromStr`] reads.
///
/// ```
/// use callboard_core::Address;
///
/// let address: Address = "[2001:db8::1]:50051".parse()?;
/// assert_eq!(address.to_string(), "[2001:db8::1]:50051");
/// assert!("localhost".parse::<Address>().is_err());
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A host and a port, reached over TCP.
    #[non_exhaustive]
    Tcp {
        /// An IP address without brackets, or a host name.
        host: String,
        /// The port; never 0.
        port: u16,
    },
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Checks a host and a port and makes an address of them. An IPv6 host stands without brackets.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), with the reason.
    pub fn tcp(host: impl Into<String>, port: u16) -> Result<Self> {
        let host = host.into();
        match host_complaint(&host).or((port == 0).then_some("port 0 cannot be reached")) {
            None => Ok(Self::Tcp { host, port }),
            Some(why) => Err(invalid(&format!("{host}:{port}"), why)),
        }
    }

    /// Checks a path and makes an address of it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the path is not absolute or not UTF-8.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_absolute() || path.to_str().is_none_or(|text| text.contains(char::is_control)) {
            return Err(invalid(
                &path.to_string_lossy(),
                "the path of a Unix socket is absolute, UTF-8 and without control characters",
            ));
        }
        Ok(Self::Unix(path.to_owned()))
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::invalid(format!("address {text:?}: {why} (expected host:port, [v6]:port or unix:/path)"))
}

fn host_complaint(host: &str) -> Option<&'static str> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return ip
            .is_unspecified()
            .then_some("an unspecified address is where a server listens, not where it can be reached");
    }
    if host.is_empty() {
        return Some("the host is empty");
    }
    if host.len() > 253 {
        return Some("the host is longer than 253 bytes");
    }
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (!plain).then_some("the host is neither an IP address nor a host name")
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(text, "the port is missing"))?;
        let port = Some(port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| invalid(text, "the port is not a number from 1 to 65535"))?;
        match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            None if host.contains(':') => Err(invalid(text, "an IPv6 address stands in brackets")),
            None => Self::tcp(host, port),
            Some(Some(v6)) if v6.parse::<Ipv6Addr>().is_ok() => Self::tcp(v6, port),
            Some(_) => Err(invalid(text, "what stands in brackets is not an IPv6 address")),
        }
    }
}

impl From<std::net::SocketAddr> for Address {
    /// The socket's IP and port as they are. For what a client dialled or a server bound to a specific address; an
    /// unspecified IP is not caught here.
    fn from(socket: std::net::SocketAddr) -> Self {
        Self::Tcp { host: socket.ip().to_string(), port: socket.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read_and_printed_alike() {
        for text in ["127.0.0.1:50051", "svc-1.ns.local:1", "[::1]:65535", "unix:/run/app.sock", "a_b:80"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_are_refused_with_the_text_and_the_reason() {
        for (text, why) in [
            ("localhost", "port is missing"),
            (":80", "host is empty"),
            ("a:", "not a number"),
            ("a:+80", "not a number"),
            ("a:65536", "not a number"),
            ("a:0", "port 0"),
            ("::1:80", "brackets"),
            ("[::1", "brackets"),
            ("[a]:80", "not an IPv6"),
            ("0.0.0.0:80", "listens"),
            ("[::]:80", "listens"),
            ("a b:80", "neither"),
            ("http://a:80", "brackets"),
            ("unix:relative", "absolute"),
            ("unix:", "absolute"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_so_that_it_is_read_again(text in "\\PC{0,60}|\\[[0-9a-f:]{2,20}\\]:[0-9]{1,5}|[a-z0-9.]{1,20}:[0-9]{1,5}|unix:/[a-z/]{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().expect("printed form"), address);
            }
        }
    }
}
