//! TLS.

pub(super) mod current;
mod pem;
mod secured;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use callboard_core::{Error, ErrorKind, RegistryTls, Result};
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::{ServerName, TrustAnchor};
use tokio_rustls::rustls::{KeyLog, RootCertStore};

use self::current::Current;
use self::pem::Identity;
use self::secured::Secured;
use super::connector::Connector;

/// Which servers a channel trusts, and which certificate it presents to them.
///
/// The name that the servers' certificates must be for is the channel's: [`server_name`](Self::server_name), or else
/// the host of the channel's [authority](crate::ChannelBuilder::authority). It never comes from the registry, which
/// others may be able to write to. HTTP/2 is negotiated by ALPN; a server that does not negotiate it is rejected,
/// unless [`assume_http2`](Self::assume_http2) is set.
///
/// **What is in files is read again** at each connection ([`with_ca_file`](Self::with_ca_file),
/// [`identity_files`](Self::identity_files)), so that a certificate that is renewed on disk is used by the next
/// connection. If the files cannot be used then, a warning is logged and the former contents are used; the next
/// connection reads again. A new file does not end open connections. PEM text that is given directly stays as it is.
///
/// The server side is tonic's: `ServerTlsConfig` reads its certificate once. To use a renewed certificate, restart the
/// servers one after the other, which calls survive; or accept connections with rustls itself (`tokio-rustls`, with a
/// `ResolvesServerCert` of your own that reads the file again) and given to tonic's `serve_with_incoming`.
///
/// ```no_run
/// # fn doc() -> callboard::Result<()> {
/// use callboard::{Channel, Tls};
///
/// let tls = Tls::with_ca_file("ca.pem")?.identity_files("client.pem", "client.key")?.server_name("test.internal");
/// let builder = Channel::builder("project/test".parse()?).tls(tls);
/// # Ok(()) }
/// ```
///
/// With a URL, it is given to the builder that the URL makes. The URL's own `registry_tls` concerns the registry alone.
///
/// ```no_run
/// # async fn doc() -> callboard::Result<()> {
/// use callboard::{Dialer, Tls};
///
/// let url = "etcd://10.0.0.1:2379/project/test?registry_tls=true";
/// let channel = Dialer::new().builder(url)?.tls(Tls::with_system_roots()?.server_name("test.example.com")).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tls {
    trust: Trust,
    shown: Shown,
    /// The files that trust and identity are read from.
    files: Option<RegistryTls>,
    server_name: Option<String>,
    assume_http2: bool,
    key_log: Option<Arc<dyn KeyLog>>,
}

#[derive(Clone)]
enum Trust {
    Roots(Arc<RootCertStore>),
    Verifier(Arc<dyn ServerCertVerifier>),
    Files,
}

#[derive(Clone)]
enum Shown {
    Nothing,
    Given(Arc<Identity>),
    Files,
}

impl Tls {
    /// Trusts the certificate authorities in this PEM text, and no others.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), if the text has no certificate, or one that cannot be read; the error says
    /// which one, and the line where it begins.
    pub fn with_ca(pem: impl AsRef<[u8]>) -> Result<Self> {
        let pems = RegistryTls::with_ca(pem.as_ref())?.pems();
        Ok(Self::trusting(Trust::Roots(pem::roots(&pems)?)))
    }

    /// Trusts the certificate authorities in this PEM file, and no others. It is read here, blocking, and again at each
    /// connection.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the file, if it cannot be read or has no certificates in PEM. Whether
    /// each can be used is checked when the channel is built.
    pub fn with_ca_file(path: impl AsRef<Path>) -> Result<Self> {
        let files = RegistryTls::with_ca_file(path)?;
        Ok(Self { files: Some(files), ..Self::trusting(Trust::Files) })
    }

    /// Trusts the certificate authorities of the operating system. They are read here, once.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), if they cannot be read or there are none.
    pub fn with_system_roots() -> Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(Self::trusting(Trust::Roots(Arc::new(roots))));
        }
        let error = Error::new(ErrorKind::Unavailable, "TLS: the system has no trusted certificates");
        Err(found.errors.into_iter().fold(error, Error::with_source))
    }

    /// Trusts these anchors, and no others: for instance those of the crate `webpki-roots`, which are compiled into the
    /// program.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), if there is none: no server could be trusted.
    pub fn with_trust_anchors(anchors: impl IntoIterator<Item = TrustAnchor<'static>>) -> Result<Self> {
        let roots: RootCertStore = anchors.into_iter().collect();
        if roots.is_empty() {
            return Err(Error::invalid("TLS: no trust anchor is given, so no server could be trusted"));
        }
        Ok(Self::trusting(Trust::Roots(Arc::new(roots))))
    }

    /// Lets this verifier alone decide whether a server is trusted: by a pinned key, a SPIFFE id, or a list of revoked
    /// certificates, for instance. It is given the name that the certificate should be for. A verifier that accepts
    /// everything makes the connections vulnerable to a man in the middle.
    ///
    /// The type is that of [`callboard::rustls`](crate::rustls).
    pub fn with_verifier(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self::trusting(Trust::Verifier(verifier))
    }

    fn trusting(trust: Trust) -> Self {
        Self { trust, shown: Shown::Nothing, files: None, server_name: None, assume_http2: false, key_log: None }
    }

    /// Presents this certificate to servers that ask for one: a PEM chain, the client's certificate first, and its
    /// private key.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming which of the two cannot be read. Whether they belong together is checked
    /// when the channel is built.
    pub fn identity(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let given = RegistryTls::with_system_roots().identity(chain.as_ref(), key.as_ref())?;
        if let Some(identity) = Identity::read(&given.pems())? {
            self.shown = Shown::Given(Arc::new(identity));
        }
        Ok(self)
    }

    /// Presents the certificate in the first of these PEM files, with the private key in the second, as
    /// [`identity`](Self::identity) does with text. They may be the same file. They are read here, blocking, and again
    /// at each connection.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the file, if one cannot be read or has no certificate or key. Whether
    /// they belong together is checked when the channel is built.
    pub fn identity_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let files = self.files.unwrap_or_else(RegistryTls::with_system_roots);
        self.files = Some(files.identity_files(chain, key)?);
        self.shown = Shown::Files;
        Ok(self)
    }

    /// The name that the servers' certificates must be for. By default the host of the channel's authority. It may be
    /// an IP address; an IPv6 address may be in brackets, and its zone is ignored.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets whether a server that negotiates no protocol (ALPN) is assumed to speak HTTP/2, as some proxies and old
    /// servers do. False by default. A server that negotiates another protocol is always rejected.
    #[must_use]
    pub fn assume_http2(mut self, assume: bool) -> Self {
        self.assume_http2 = assume;
        self
    }

    /// Writes the secrets of each connection to this log. With them, recorded traffic can be **decrypted**: use it for
    /// debugging only. `KeyLogFile` of [`callboard::rustls`](crate::rustls) writes the file that the variable
    /// `SSLKEYLOGFILE` names, as Wireshark reads it. None by default.
    #[must_use]
    pub fn key_log(mut self, log: Arc<dyn KeyLog>) -> Self {
        self.key_log = Some(log);
        self
    }

    /// Wraps a connector in TLS.
    pub(crate) fn around(&self, inner: Arc<dyn Connector>, host: &str) -> Result<Arc<dyn Connector>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(bare(name).to_owned())
            .map_err(|error| Error::invalid(format!("TLS: server name {name:?}")).with_source(error))?;
        let current = Current::new(self.clone())?;
        Ok(Arc::new(Secured { inner, current, server_name, assume_http2: self.assume_http2 }))
    }
}

/// A host as certificates name it: without the brackets and the zone that an IPv6 address may have in an authority.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.split_once('%').map_or(v6, |(v6, _)| v6),
        None => host,
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Tls");
        match &self.trust {
            Trust::Roots(roots) => out.field("roots", &roots.len()),
            Trust::Verifier(_) => out.field("verifier", &true),
            Trust::Files => &mut out,
        };
        out.field("identity", &!matches!(self.shown, Shown::Nothing))
            .field("files", &self.files)
            .field("server_name", &self.server_name)
            .field("assume_http2", &self.assume_http2)
            .field("key_log", &self.key_log.is_some())
            .finish()
    }
}
