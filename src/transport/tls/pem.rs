//! Reading PEM texts.

use std::sync::Arc;

use callboard_core::{BoxError, Error, Result};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Whom a text says to trust.
pub(super) fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates("the CA", pem)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| unreadable(&which("the CA", pem, index), error))?;
    }
    Ok(Arc::new(roots))
}

/// What a client shows.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) fn read(chain: &[u8], key: &[u8]) -> Result<Self> {
        let chain = certificates("the client certificate", chain)?;
        // The reader's own error could quote the text, which is secret.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| Error::invalid("TLS: the client's private key is no PEM private key"))?;
        Ok(Self { chain, key })
    }
}

pub(super) fn unreadable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::invalid(format!("TLS: {what} cannot be used")).with_source(error)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        found.push(certificate.map_err(|error| unreadable(&which(what, pem, found.len()), error))?);
    }
    if found.is_empty() {
        return Err(Error::invalid(format!("TLS: {what} is no PEM text with a certificate in it")));
    }
    Ok(found)
}

/// Names one of the certificates in a PEM text, if there are several.
fn which(what: &str, pem: &[u8], index: usize) -> String {
    let begins = |line: &[u8]| line.trim_ascii().starts_with(b"-----BEGIN CERTIFICATE-----");
    let lines = pem.split(|byte| *byte == b'\n').enumerate();
    let starts: Vec<usize> = lines.filter(|(_, line)| begins(line)).map(|(number, _)| number + 1).collect();
    match starts.get(index) {
        Some(line) if starts.len() > 1 => {
            format!("{what}: certificate {} of {}, which begins in line {line},", index + 1, starts.len())
        }
        _ => what.to_owned(),
    }
}
