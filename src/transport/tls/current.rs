//! The TLS configuration of the next connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use callboard_core::{RegistryPems, RegistryTls, Result};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::pem::{self, Identity, unreadable};
use super::{Shown, Tls, Trust};

/// A [`Tls`], with the connector that was made from it last.
pub(in crate::transport) struct Current {
    tls: Tls,
    made: Mutex<Made>,
}

struct Made {
    /// The contents of the files. None if there are no files.
    of: Option<Arc<RegistryPems>>,
    connector: TlsConnector,
}

impl Current {
    pub(super) fn new(tls: Tls) -> Result<Self> {
        let of = tls.files.as_ref().map(RegistryTls::pems);
        let connector = connector(&tls, of.as_deref())?;
        Ok(Self { tls, made: Mutex::new(Made { of, connector }) })
    }

    /// The connector for a new connection. It stays the same, with its sessions, as long as the files do not change. If
    /// the files cannot be used, for instance while a certificate is renewed and its key is not yet, the former
    /// connector is used.
    pub(in crate::transport) async fn connector(&self) -> TlsConnector {
        if let Some(files) = &self.tls.files {
            self.renew(files.read_again().await);
        }
        self.made().connector.clone()
    }

    fn renew(&self, pems: Arc<RegistryPems>) {
        let mut made = self.made();
        if made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &pems)) {
            return;
        }
        match connector(&self.tls, Some(&pems)) {
            Ok(connector) => *made = Made { of: Some(pems), connector },
            Err(error) => {
                tracing::warn!(error = error.chain(), "TLS: the files cannot be used: their former contents are used");
            }
        }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        // The value is only replaced as a whole.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connector(tls: &Tls, pems: Option<&RegistryPems>) -> Result<TlsConnector> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unreadable("the configuration", error))?;
    let trusting = match &tls.trust {
        Trust::Roots(roots) => builder.with_root_certificates(Arc::clone(roots)),
        Trust::Verifier(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::clone(verifier)),
        Trust::Files => builder.with_root_certificates(roots(pems)?),
    };
    let mut config = match shown(&tls.shown, pems)? {
        None => trusting.with_no_client_auth(),
        Some(identity) => {
            let shown = trusting.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key());
            shown.map_err(|error| match (&tls.shown, pems) {
                (Shown::Files, Some(pems)) => pems.identity_unusable(error),
                _ => unreadable("the client certificate and its key", error),
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    if let Some(log) = &tls.key_log {
        config.key_log = Arc::clone(log);
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificate authorities in the files.
fn roots(pems: Option<&RegistryPems>) -> Result<Arc<RootCertStore>> {
    pems.map_or_else(|| Ok(Arc::new(RootCertStore::empty())), pem::roots)
}

fn shown(shown: &Shown, pems: Option<&RegistryPems>) -> Result<Option<Arc<Identity>>> {
    match (shown, pems) {
        (Shown::Given(identity), _) => Ok(Some(Arc::clone(identity))),
        (Shown::Files, Some(pems)) => Ok(Identity::read(pems)?.map(Arc::new)),
        _ => Ok(None),
    }
}
