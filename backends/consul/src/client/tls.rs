//! How the agent is trusted, and how this client shows itself to it.

use std::sync::Arc;

use callboard_core::{BoxError, Error, ErrorKind, RegistryPems, Result};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The configuration for rustls. It is wanted in any case by the HTTP client; `encrypted` tells whether it will be
/// used at all.
pub(crate) fn config(pems: Option<&RegistryPems>, encrypted: bool) -> Result<ClientConfig> {
    let roots = match pems.and_then(|pems| Some((pems, pems.ca()?))) {
        _ if !encrypted => RootCertStore::empty(),
        Some((pems, ca)) => only(ca).map_err(|error| pems.ca_unusable(error))?,
        None => of_the_system()?,
    };
    let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS: it cannot be used").with_source(error))?
        .with_root_certificates(roots);
    let Some((pems, (chain, key))) = pems.and_then(|pems| Some((pems, pems.identity()?))) else {
        return Ok(trusting.with_no_client_auth());
    };
    let chain = certificates(chain).map_err(|error| pems.identity_unusable(error))?;
    // The reader's own error could quote the text, which is secret.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| pems.identity_unusable("the key is no PEM private key"))?;
    trusting.with_client_auth_cert(chain, key).map_err(|error| pems.identity_unusable(error))
}

fn only(pem: &[u8]) -> std::result::Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> std::result::Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

fn of_the_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let error = Error::new(ErrorKind::Unavailable, "TLS: the system has no trusted certificates; give the CA's");
    Err(found.errors.into_iter().fold(error, Error::with_source))
}
