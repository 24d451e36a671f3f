//! How the agent is trusted, and how this client shows itself to it.

use std::sync::Arc;

use callboard_core::{BoxError, Error, ErrorKind, RegistryTls, Result};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The configuration for rustls. It is wanted in any case by the HTTP client; `encrypted` tells whether it will be
/// used at all.
pub(crate) fn config(tls: Option<&RegistryTls>, encrypted: bool) -> Result<ClientConfig> {
    let roots = match tls.and_then(RegistryTls::ca_pem) {
        _ if !encrypted => RootCertStore::empty(),
        Some(pem) => only(pem)?,
        None => of_the_system()?,
    };
    let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the configuration", error))?
        .with_root_certificates(roots);
    let Some((chain, key)) = tls.and_then(RegistryTls::identity_pem) else {
        return Ok(trusting.with_no_client_auth());
    };
    let chain = certificates("the client certificate", chain)?;
    // The reader's own error could quote the text, which is secret.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| Error::invalid("TLS: the client's private key is no PEM private key"))?;
    let shown = trusting.with_client_auth_cert(chain, key);
    shown.map_err(|error| unusable("the client certificate and its key", error))
}

fn only(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the CA", pem)? {
        roots.add(certificate).map_err(|error| unusable("the CA", error))?;
    }
    Ok(roots)
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

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = found.map_err(|error| unusable(what, error))?;
    if found.is_empty() {
        return Err(Error::invalid(format!("TLS: {what} is no PEM text with a certificate in it")));
    }
    Ok(found)
}

fn unusable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::invalid(format!("TLS: {what} cannot be used")).with_source(error)
}
