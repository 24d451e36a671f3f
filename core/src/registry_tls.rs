//! TLS to a registry, as a backend tells its client library.

use std::fmt;
use std::fs;

use crate::{Error, Result, TargetOptions};

/// How a registry's servers are trusted by TLS, and how a client shows itself to them. The certificate of a server must
/// be for the host at which it is reached.
///
/// It holds PEM texts, which each backend gives to its client library. A backend's builder takes one by `tls`, and its
/// URL has the same by the keys `tls`, `ca`, `cert` and `key`. This is about the registry alone: TLS to the servers of
/// a service is a channel's matter.
///
/// ```no_run
/// # fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// use callboard_core::RegistryTls;
///
/// let tls = RegistryTls::with_ca(std::fs::read("ca.pem")?)?
///     .identity(std::fs::read("client.pem")?, std::fs::read("client.key")?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegistryTls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl RegistryTls {
    /// Trusts the certificate authorities in this PEM text, and no others.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the text has no certificate in it.
    pub fn with_ca(pem: impl Into<Vec<u8>>) -> Result<Self> {
        Ok(Self { ca: Some(holds("the CA", CERTIFICATE, pem.into())?), identity: None })
    }

    /// Trusts what the operating system trusts, if the backend's client library can do that.
    pub fn with_system_roots() -> Self {
        Self { ca: None, identity: None }
    }

    /// Shows this certificate to a server that asks for one: a PEM chain, the own certificate first, and its private
    /// key. None by default.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming which of the two is not what it should be.
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Result<Self> {
        let chain = holds("the client certificate", CERTIFICATE, chain.into())?;
        let key = holds("the client's private key", PRIVATE_KEY, key.into())?;
        self.identity = Some((chain, key));
        Ok(self)
    }

    /// Reads it from a dial URL. None if the URL says nothing of TLS. Called by backends.
    ///
    /// TLS is on with the key `tls`, or with any of the others, which would be without effect otherwise: `ca` names the
    /// file of the certificate authorities, `cert` and `key` those of the client's certificate and private key. The
    /// files are read here.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the key: a file that cannot be read or has no such thing in it,
    /// `cert` without `key` or the reverse, or any of them beside `tls=false`.
    pub fn from_options(options: &mut TargetOptions<'_>) -> Result<Option<Self>> {
        let on = options.flag("tls")?;
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| options.text(name).map(|_| name));
        match (on, ca.or(cert).or(key)) {
            (Some(false), Some(name)) => {
                return Err(options.invalid("tls", &format!("true, or nothing, beside {name:?}")));
            }
            (None | Some(false), None) => return Ok(None),
            _ => {}
        }
        let tls = match ca {
            Some(_) => Self::with_ca(file(options, "ca")?).map_err(|error| options.invalid("ca", &usable(&error)))?,
            None => Self::with_system_roots(),
        };
        match (cert, key) {
            (None, None) => Ok(Some(tls)),
            (Some(_), None) => Err(options.invalid("cert", "\"key\" beside it, with the file of its private key")),
            (None, Some(_)) => Err(options.invalid("key", "\"cert\" beside it, with the file of its certificate")),
            (Some(_), Some(_)) => {
                let shown = tls.identity(file(options, "cert")?, file(options, "key")?);
                shown.map(Some).map_err(|error| options.invalid("cert", &usable(&error)))
            }
        }
    }

    /// The PEM text of those that are trusted. None for the operating system's. Called by backends.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.ca.as_deref()
    }

    /// The PEM texts of the client's certificate and of its private key, which is secret. Called by backends.
    pub fn identity_pem(&self) -> Option<(&[u8], &[u8])> {
        self.identity.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()))
    }
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// Whether a PEM text has such a part. The text itself may be secret, and is never shown. Whether the part can be read
/// is found by the client library.
fn holds(what: &str, part: &str, pem: Vec<u8>) -> Result<Vec<u8>> {
    let there = pem.windows(part.len()).any(|window| window == part.as_bytes());
    let name = part.trim_matches('-').trim_start_matches("BEGIN ").to_lowercase();
    if there { Ok(pem) } else { Err(Error::invalid(format!("TLS: {what} has no {name} in PEM form"))) }
}

/// The contents of the file that a key names.
fn file(options: &mut TargetOptions<'_>, key: &'static str) -> Result<Vec<u8>> {
    let path = options.text(key).unwrap_or_default();
    fs::read(path).map_err(|error| options.invalid(key, "a file that can be read").with_source(error))
}

fn usable(error: &Error) -> String {
    format!("a usable file ({})", error.message())
}

impl fmt::Debug for RegistryTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("RegistryTls").field("ca", &ca).field("identity", &identity).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn read(query: &str) -> Result<Option<RegistryTls>> {
        let target: Target = format!("x://h/s{query}").parse()?;
        let mut options = target.options();
        let tls = RegistryTls::from_options(&mut options)?;
        options.finish().map(|()| tls)
    }

    #[test]
    fn a_url_says_whether_there_is_tls() {
        for (query, on) in [("", false), ("?tls=false", false), ("?tls", true)] {
            assert_eq!(read(query).expect(query).is_some(), on, "{query}");
        }
    }

    #[test]
    fn half_a_setting_is_refused_with_its_key() {
        for (query, why) in [
            ("?tls=perhaps", "\"tls\""),
            ("?tls=false&ca=/c", "\"tls\""),
            ("?tls=false&cert=/c&key=/k", "beside \"cert\""),
            ("?ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
            ("?cert=/c", "\"key\" beside it"),
            ("?key=/k", "\"cert\" beside it"),
            ("?cert=/nowhere/c&key=/nowhere/k", "a file that can be read"),
            ("?ca=Cargo.toml", "a usable file (TLS: the CA has no certificate"),
        ] {
            let error = read(query).expect_err(query).to_string();
            assert!(error.contains(why), "{query}: {error}");
        }
    }

    #[test]
    fn what_is_no_pem_is_refused_and_never_shown() {
        let certificate = format!("{CERTIFICATE}\nhunter2");
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2";
        let tls = RegistryTls::with_ca(certificate.clone()).and_then(|tls| tls.identity(certificate.clone(), key));
        let tls = tls.expect("it looks like PEM");
        assert!(!format!("{tls:?}").contains("hunter2"));
        assert!(tls.identity_pem().is_some_and(|(_, secret)| secret == key.as_bytes()));
        for (error, why) in [
            (RegistryTls::with_ca("hunter2"), "the CA has no certificate"),
            (RegistryTls::with_system_roots().identity("hunter2", key), "the client certificate has no certificate"),
            (RegistryTls::with_system_roots().identity(certificate, "hunter2"), "private key has no private key"),
        ] {
            let error = error.expect_err(why).to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }
}
