//! Where an instance can be reached.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Error, Result, masked_url, short};

/// Where an instance can be reached: `host:port`, `[v6]:port`, `unix:/path` or `unix-abstract:name`.
///
/// The host is an IP address or a name that the client resolves. An unspecified IP address (`0.0.0.0`, `[::]`,
/// `[::ffff:0.0.0.0]`) and port 0 are where a server listens, not where it can be reached, and are refused. So is a host
/// that ends in a number and is no IPv4 address of four decimals, as in a URL: systems read `0x0`, `127.1` and `010.0.0.1`
/// as addresses, and not all in the same way. An IPv6 address may have a zone, as RFC 4007 writes it:
/// `[fe80::1%eth0]:50051`, or with the interface's number. A zone is valid on one machine only.
///
/// An address is always checked: it is parsed, or made by a function that fails.
///
/// ```compile_fail,E0423
/// let address = callboard_core::Address("0.0.0.0:0".to_owned());
/// ```
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Kind);

/// Made only by the checks of [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
    UnixAbstract(String),
}

/// The longest name that fits into a Unix socket's address, after a NUL.
const LONGEST_ABSTRACT: usize = 107;

impl Address {
    /// Checks a host and a port and makes an address of them. An IPv6 host is given without brackets.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), with the reason.
    pub fn tcp(host: impl Into<String>, port: u16) -> Result<Self> {
        let host = host.into();
        match host_complaint(&host).or((port == 0).then_some("port 0 cannot be reached")) {
            None => Ok(Self(Kind::Tcp { host, port })),
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
        Ok(Self(Kind::Unix(path.to_owned())))
    }

    /// Checks the name of a socket in Linux's abstract namespace and makes an address of it. Dialling it on another
    /// system is [`Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the name is empty, longer than 107 bytes, or has control characters.
    pub fn unix_abstract(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > LONGEST_ABSTRACT || name.contains(char::is_control) {
            let why = "the name of an abstract Unix socket is 1 to 107 bytes without control characters";
            return Err(invalid(&format!("unix-abstract:{name}"), why));
        }
        Ok(Self(Kind::UnixAbstract(name)))
    }

    /// The host and the port of an address that is reached over TCP. The host is an IP address without brackets, an IPv6
    /// address with its zone (`fe80::1%eth0`), or a host name. The port is never 0.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match &self.0 {
            Kind::Tcp { host, port } => Some((host, *port)),
            _ => None,
        }
    }

    /// The absolute path of a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// The name of a Unix socket in Linux's abstract namespace, without the NUL that the system has before it. It is in
    /// no file system, and gone with the last process that has it open.
    pub fn unix_abstract_name(&self) -> Option<&str> {
        match &self.0 {
            Kind::UnixAbstract(name) => Some(name),
            _ => None,
        }
    }
}

fn invalid(text: &str, why: &str) -> Error {
    let forms = "host:port, [v6]:port, unix:/path or unix-abstract:name";
    Error::invalid(format!("address {:?}: {why} (expected {forms})", short(&masked_url(text))))
}

/// The IP address that a host is, without the zone that one of IPv6 may have.
fn ip_of(host: &str) -> Option<Result<IpAddr, &'static str>> {
    let Some((v6, zone)) = host.split_once('%') else { return host.parse().ok().map(Ok) };
    let v6 = v6.parse::<Ipv6Addr>().ok()?;
    let plain = !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b));
    Some(if plain { Ok(v6.into()) } else { Err("the zone behind % is no interface's name or number") })
}

fn host_complaint(host: &str) -> Option<&'static str> {
    if let Some(ip) = ip_of(host) {
        let ip = match ip {
            Ok(ip) => ip,
            Err(why) => return Some(why),
        };
        return ip
            .to_canonical()
            .is_unspecified()
            .then_some("an unspecified address is where a server listens, not where it can be reached");
    }
    if host.is_empty() {
        return Some("the host is empty");
    }
    if host.len() > 253 {
        return Some("the host is longer than 253 bytes");
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Some("the host is neither an IP address nor a host name");
    }
    ends_in_a_number(host)
        .then_some("a host that ends in a number is an IPv4 address, which is four decimals such as 10.0.0.7")
}

/// Whether `inet_aton` would read the last part of a name as a number.
fn ends_in_a_number(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        if let Some(name) = text.strip_prefix("unix-abstract:") {
            return Self::unix_abstract(name);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid(text, "the port is missing"))?;
        let port = Some(port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| invalid(text, "the port is not a number from 1 to 65535"))?;
        match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            None if host.contains(':') => Err(invalid(text, "an IPv6 address stands in brackets")),
            None => Self::tcp(host, port),
            Some(Some(v6)) if v6.contains(':') && ip_of(v6).is_some() => Self::tcp(v6, port),
            Some(_) => Err(invalid(text, "what stands in brackets is not an IPv6 address")),
        }
    }
}

impl TryFrom<std::net::SocketAddr> for Address {
    type Error = Error;

    /// The socket's IP and port as they are, and the zone of an IPv6 address as a number, if there is one. For the address
    /// that a client has dialled, or that a server is bound to if it is specific.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the IP is unspecified or the port is 0.
    fn try_from(socket: std::net::SocketAddr) -> Result<Self> {
        let host = match socket {
            std::net::SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => socket.ip().to_string(),
        };
        Self::tcp(host, socket.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Kind::Tcp { host, port } => write!(f, "{host}:{port}"),
            Kind::Unix(path) => write!(f, "unix:{}", path.display()),
            Kind::UnixAbstract(name) => write!(f, "unix-abstract:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_are_read_and_printed_alike() {
        for text in [
            "127.0.0.1:50051",
            "svc-1.ns.local:1",
            "1.example:1",
            "0x0.example:1",
            "10.0.0.7.example.:1",
            "beef:1",
            "[::ffff:10.0.0.7]:1",
            "[::1]:65535",
            "[fe80::1%eth0.2]:1",
            "[fe80::1%2]:1",
            "unix:/run/app.sock",
            "unix-abstract:app/1",
            "a_b:80",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_socket_s_zone_is_kept() {
        let socket = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 80, 0, 7);
        let address = Address::try_from(std::net::SocketAddr::from(socket)).expect("a specific address");
        assert_eq!(address.to_string(), "[fe80::1%7]:80");
        assert_eq!(address.to_string().parse::<Address>().expect("the printed form"), address);
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
            ("[10.0.0.1]:80", "not an IPv6"),
            ("[fe80::1%]:80", "zone"),
            ("[fe80::1%a b]:80", "zone"),
            ("[::%2]:80", "listens"),
            ("10.0.0.1%eth0:80", "neither"),
            ("0.0.0.0:80", "listens"),
            ("[::]:80", "listens"),
            ("[::ffff:0.0.0.0]:80", "listens"),
            ("[::ffff:0:0]:80", "listens"),
            ("0x0:80", "four decimals"),
            ("0:80", "four decimals"),
            ("0.0:80", "four decimals"),
            ("00.0.0.0:80", "four decimals"),
            ("0.0.0.0.:80", "four decimals"),
            ("127.1:80", "four decimals"),
            ("0X7f.1:80", "four decimals"),
            ("a.0x:80", "four decimals"),
            ("256.0.0.1:80", "four decimals"),
            ("a b:80", "neither"),
            ("http://a:80", "brackets"),
            ("unix:relative", "absolute"),
            ("unix:", "absolute"),
            ("unix-abstract:", "1 to 107"),
            ("unix-abstract:a\0b", "control"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_so_that_it_is_read_again(text in "\\PC{0,60}|\\[[0-9a-f:]{2,20}\\]:[0-9]{1,5}|[a-z0-9.]{1,20}:[0-9]{1,5}|\\[fe80::1%[a-z0-9.%]{0,5}\\]:1|unix:/[a-z/]{0,20}|unix-abstract:\\PC{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().expect("printed form"), address);
            }
        }
    }
}
