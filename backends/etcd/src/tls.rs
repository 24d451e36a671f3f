//! TLS to etcd.

use std::fmt;

use callboard_core::{Error, Result};
use etcd_client::{Certificate, Identity, TlsOptions};

/// How etcd is trusted, and how a client shows itself to it.
///
/// The name that etcd's certificate must be for is the host of each endpoint, unless
/// [`server_name`](Self::server_name) says otherwise.
///
/// ```no_run
/// # fn doc(ca: &[u8], certificate: &[u8], key: &[u8]) -> callboard_core::Result<()> {
/// use callboard_etcd::{Etcd, EtcdTls};
///
/// let tls = EtcdTls::with_ca(ca)?.identity(certificate, key)?;
/// let etcd = Etcd::builder(["10.0.0.1", "10.0.0.2"]).tls(tls).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EtcdTls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
}

impl EtcdTls {
    /// Trusts the certificate authorities in this PEM text, and no others.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), if the text has no certificate in it.
    pub fn with_ca(pem: impl Into<Vec<u8>>) -> Result<Self> {
        let ca = holds("the CA", CERTIFICATE, pem.into())?;
        Ok(Self { ca: Some(ca), ..Self::with_system_roots() })
    }

    /// Trusts what the operating system trusts.
    pub fn with_system_roots() -> Self {
        Self { ca: None, identity: None, server_name: None }
    }

    /// Shows this certificate to etcd: a PEM chain, the own certificate first, and its private key. None by default.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming which of the two is not what it should be.
    pub fn identity(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Result<Self> {
        let chain = holds("the client certificate", CERTIFICATE, chain.into())?;
        let key = holds("the client's private key", PRIVATE_KEY, key.into())?;
        self.identity = Some((chain, key));
        Ok(self)
    }

    /// The name that etcd's certificate must be for. By default the host of each endpoint.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    pub(crate) fn options(&self) -> TlsOptions {
        let plain = match &self.ca {
            Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
            None => TlsOptions::new().with_native_roots(),
        };
        let named = self.server_name.iter().fold(plain, TlsOptions::domain_name);
        self.identity.iter().fold(named, |options, (chain, key)| options.identity(Identity::from_pem(chain, key)))
    }
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// Whether a PEM text has such a part. The text itself may be secret, and is never shown. Whether the part can be read
/// is found when the first connection is made.
fn holds(what: &str, part: &str, pem: Vec<u8>) -> Result<Vec<u8>> {
    let there = pem.windows(part.len()).any(|window| window == part.as_bytes());
    let name = part.trim_matches('-').trim_start_matches("BEGIN ").to_lowercase();
    if there { Ok(pem) } else { Err(Error::invalid(format!("TLS: {what} has no {name} in PEM form"))) }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
