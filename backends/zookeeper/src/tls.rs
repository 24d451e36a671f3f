//! TLS, as the client library wants it.

use std::str;

use callboard_core::{RegistryTls, Result};
use rustls::crypto::{CryptoProvider, ring};
use zookeeper_client::TlsOptions;

use crate::settings::invalid;

/// The options for this trust and this identity. The client library cannot read the system's certificates.
pub(crate) fn options(tls: &RegistryTls) -> Result<TlsOptions> {
    let ca = tls.ca_pem().ok_or_else(|| {
        invalid("TLS: the system's certificates are not read here; name the certificate of the CA (in a URL: ca=FILE)")
    })?;
    let trusting = TlsOptions::new()
        .with_pem_ca(text(ca)?)
        .map_err(|error| invalid("TLS: the CA cannot be used").with_source(error))?;
    let Some((certificate, key)) = tls.identity_pem() else { return Ok(trusting) };
    let shown = trusting.with_pem_identity(text(certificate)?, text(key)?);
    shown.map_err(|error| invalid("TLS: the client certificate and its key cannot be used").with_source(error))
}

/// The text may be secret, and the error does not quote it.
fn text(pem: &[u8]) -> Result<&str> {
    str::from_utf8(pem).map_err(|_| invalid("TLS: a PEM text is not UTF-8"))
}

/// Has a provider of cryptography, if the program has not chosen one: the client library asks for the program's, and
/// rustls panics where several are compiled in and none is chosen.
pub(crate) fn provide() {
    if CryptoProvider::get_default().is_none() {
        // It fails if somebody else has just chosen one, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
