//! TLS.

use std::fmt;
use std::io;
use std::sync::Arc;

use callboard_core::{Address, BoxError, Error, ErrorKind, Result};
use futures_core::future::BoxFuture;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::connector::{Connector, Socket};

/// How a channel trusts its servers, and how it shows itself to them.
///
/// The name that the servers' certificates must be for is the channel's: [`server_name`](Self::server_name), or else
/// the host of the channel's [authority](crate::ChannelBuilder::authority). It never comes from the registry, which
/// anybody may be able to write to. HTTP/2 is agreed on by ALPN; a server that does not is refused.
///
/// ```no_run
/// # fn doc(ca: &[u8], certificate: &[u8], key: &[u8]) -> callboard::Result<()> {
/// use callboard::{Channel, Tls};
///
/// let tls = Tls::with_ca(ca)?.identity(certificate, key)?.server_name("test.internal");
/// let builder = Channel::builder("project/test".parse()?).tls(tls);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tls {
    roots: Arc<RootCertStore>,
    identity: Option<Arc<Identity>>,
    server_name: Option<String>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// Trusts the certificate authorities in this PEM text, and no others.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), if the text has no certificate, or one that cannot be read.
    pub fn with_ca(pem: impl AsRef<[u8]>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA", pem.as_ref())? {
            roots.add(certificate).map_err(|error| unreadable("the CA", error))?;
        }
        Ok(Self { roots: Arc::new(roots), identity: None, server_name: None })
    }

    /// Trusts what the operating system trusts.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), if that cannot be read or is nothing.
    pub fn with_system_roots() -> Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Ok(Self { roots: Arc::new(roots), identity: None, server_name: None });
        }
        let error = Error::new(ErrorKind::Unavailable, "TLS: the system has no trusted certificates");
        Err(found.errors.into_iter().fold(error, Error::with_source))
    }

    /// Shows this certificate to servers that ask for one: a PEM chain, the own certificate first, and its private key.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming which of the two cannot be read. Whether they belong together is found
    /// when the channel is built.
    pub fn identity(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let chain = certificates("the client certificate", chain.as_ref())?;
        // The reader's own error could quote the text, which is secret.
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|_| Error::invalid("TLS: the client's private key is no PEM private key"))?;
        self.identity = Some(Arc::new(Identity { chain, key }));
        Ok(self)
    }

    /// The name that the servers' certificates must be for. By default the host of the channel's authority.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Puts TLS around a connector.
    pub(crate) fn around(&self, inner: Arc<dyn Connector>, host: &str) -> Result<Arc<dyn Connector>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|error| Error::invalid(format!("TLS: server name {name:?}")).with_source(error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusting = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unreadable("the configuration", error))?
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match &self.identity {
            None => trusting.with_no_client_auth(),
            Some(identity) => trusting
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| unreadable("the client certificate and its key", error))?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(Secured { inner, connector: TlsConnector::from(Arc::new(config)), server_name }))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

fn unreadable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::invalid(format!("TLS: {what} cannot be used")).with_source(error)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = found.map_err(|error| unreadable(what, error))?;
    if found.is_empty() {
        return Err(Error::invalid(format!("TLS: {what} is no PEM text with a certificate in it")));
    }
    Ok(found)
}

/// A connector whose byte streams are encrypted.
struct Secured {
    inner: Arc<dyn Connector>,
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Connector for Secured {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
        Box::pin(async move {
            let socket = self.inner.connect(address).await?;
            let handshake = self.connector.connect(self.server_name.clone(), socket);
            let stream = handshake.await.map_err(|error| self.refused(error))?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "TLS: the server did not agree to HTTP/2 (ALPN \"h2\")",
                ));
            }
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}

impl Secured {
    /// Says which part of the server's certificate is wrong, if that is what is wrong.
    fn refused(&self, error: io::Error) -> Error {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let why = match cause {
            Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("the server's certificate is not for {:?}", self.server_name.to_str())
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the server's certificate has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "the server's certificate is not valid yet".to_owned()
                }
                CertificateError::UnknownIssuer => {
                    "the server's certificate is by an authority that is not trusted here".to_owned()
                }
                _ => "the server's certificate is refused".to_owned(),
            },
            Some(
                rustls::Error::NoApplicationProtocol
                | rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol),
            ) => "the server does not offer HTTP/2 (ALPN \"h2\")".to_owned(),
            _ => "the handshake failed".to_owned(),
        };
        Error::new(ErrorKind::Unavailable, format!("TLS: {why}")).with_source(error)
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("server_name", &self.server_name).field("inner", &self.inner).finish()
    }
}
