//! From PEM text to the types of rustls. The files are read by the core crate.

use std::sync::Arc;

use callboard_core::{BoxError, Error, RegistryPems, Result};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate authorities to trust. None if the texts name no CA.
pub(super) fn roots(pems: &RegistryPems) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in pems.ca_certificates().into_iter().flatten().enumerate() {
        let added = roots.add(CertificateDer::from(certificate.as_slice()));
        added.map_err(|error| pems.ca_certificate_unusable(index, error))?;
    }
    Ok(Arc::new(roots))
}

/// The certificate that a client presents.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// None if no certificate is presented.
    pub(super) fn read(pems: &RegistryPems) -> Result<Option<Self>> {
        let (Some(chain), Some((_, key))) = (pems.identity_certificates(), pems.identity()) else { return Ok(None) };
        let chain = chain.iter().map(|certificate| CertificateDer::from(certificate.clone())).collect();
        // The reader's own error could quote the secret text.
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| pems.identity_unusable("the key is no PEM private key"))?;
        Ok(Some(Self { chain, key }))
    }
}

pub(super) fn unreadable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::invalid(format!("TLS: {what} cannot be used")).with_source(error)
}
