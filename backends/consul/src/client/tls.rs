//! TLS to the agent: which certificates are trusted, and which one this client shows.

use std::sync::Arc;

use callboard_core::{Error, ErrorKind, RegistryPems, Result};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The configuration for rustls. The HTTP client needs one in any case; `encrypted` tells whether it will be used.
pub(super) fn config(pems: Option<&RegistryPems>, encrypted: bool) -> Result<ClientConfig> {
    let roots = match pems.filter(|pems| pems.ca().is_some()) {
        _ if !encrypted => RootCertStore::empty(),
        Some(pems) => authorities(pems)?,
        None => of_the_system()?,
    };
    let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("TLS: it cannot be used").with_source(error))?
        .with_root_certificates(roots);
    let identity = pems.and_then(|pems| Some((pems, pems.identity_certificates()?, pems.identity()?.1)));
    let Some((pems, chain, key)) = identity else { return Ok(trusting.with_no_client_auth()) };
    let chain = chain.iter().map(|certificate| CertificateDer::from(certificate.clone())).collect();
    // The reader's own error could quote the text, which is secret.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| pems.identity_unusable("the key is no PEM private key"))?;
    trusting.with_client_auth_cert(chain, key).map_err(|error| pems.identity_unusable(error))
}

fn authorities(pems: &RegistryPems) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in pems.ca_certificates().into_iter().flatten().enumerate() {
        let added = roots.add(CertificateDer::from(certificate.as_slice()));
        added.map_err(|error| pems.ca_certificate_unusable(index, error))?;
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
