//! TLS, as the client library wants it.

use callboard_core::Result;
use rustls::crypto::{CryptoProvider, ring};
use zookeeper_client::TlsOptions;

use crate::settings::invalid;

/// The options for these certificates, in PEM. None is no TLS.
pub(crate) fn options(ca: Option<&str>, identity: Option<&(String, String)>) -> Result<Option<TlsOptions>> {
    let Some(ca) = ca else {
        return match identity {
            None => Ok(None),
            Some(_) => Err(invalid("a certificate of the client's own needs TLS: name the certificate of the CA")),
        };
    };
    let trusting = TlsOptions::new()
        .with_pem_ca(ca)
        .map_err(|error| invalid("no certificate of a CA in PEM").with_source(error))?;
    let options = match identity {
        None => Ok(trusting),
        Some((certificate, key)) => trusting.with_pem_identity(certificate, key),
    };
    let refused = |error| invalid("no certificate and private key of the client in PEM").with_source(error);
    options.map(Some).map_err(refused)
}

/// Has a provider of cryptography, if the program has not chosen one: the client library asks for the program's, and
/// rustls panics where several are compiled in and none is chosen.
pub(crate) fn provide() {
    if CryptoProvider::get_default().is_none() {
        // It fails if somebody else has just chosen one, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
