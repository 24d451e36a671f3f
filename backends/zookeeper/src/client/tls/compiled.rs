//! TLS settings in the form that the client library takes.

use std::fmt;
use std::str;

use callboard_core::{RegistryPems, RegistryTls, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use zookeeper_client::{Client, Connector, TlsCa, TlsCerts, TlsDynamicCerts, TlsIdentity, TlsOptions};

use crate::error::{BACKEND, invalid};

/// Checks the settings and the hosts' names, which the client library does not check.
pub(crate) fn check(tls: &RegistryTls, hosts: &str) -> Result<()> {
    for host in hosts.split(',') {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        ServerName::try_from(name).map_err(|error| {
            invalid(format!("host {host:?}: no certificate can be for that name")).with_source(error)
        })?;
    }
    certs(&tls.pems()).map(drop)
}

/// The CAs and the client certificate of one session. The library connects by itself, and reads them here each time.
pub(crate) struct Certificates {
    tls: RegistryTls,
    certs: TlsDynamicCerts,
}

impl Certificates {
    /// Reads the files.
    pub(crate) async fn read(tls: &RegistryTls) -> Result<Self> {
        let certs = certs(&*tls.read_again().await)?;
        Ok(Self { tls: tls.clone(), certs: TlsDynamicCerts::new(certs) })
    }

    /// Reads the files again, for the next connection. If they cannot be used, a warning is logged and nothing changes.
    pub(crate) async fn renew(&self) {
        match certs(&*self.tls.read_again().await) {
            Ok(certs) => self.certs.update(certs),
            Err(error) => {
                tracing::warn!(error = error.chain(), "TLS files cannot be used; what was read before stays in use");
            }
        }
    }

    pub(crate) async fn connect(&self, connector: Connector, hosts: &str) -> Result<Client, zookeeper_client::Error> {
        provide();
        connector.with_tls(TlsOptions::new().with_certs(self.certs.clone())).secure_connect(hosts).await
    }
}

/// Shows no secret.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// The certificates in the library's form. The library cannot read the system's.
fn certs(pems: &RegistryPems) -> Result<TlsCerts> {
    let ca = pems.ca().ok_or_else(|| {
        invalid("TLS: the system's certificates are not read here; name the certificate of the CA (in a URL: ca=FILE)")
    })?;
    let trusted = TlsCa::from_pem(text(ca)?).map_err(|error| pems.ca_unusable(error).in_backend(BACKEND))?;
    let mut certs = TlsCerts::builder().with_ca(trusted);
    if let Some((certificate, key)) = pems.identity() {
        let shown = TlsIdentity::from_pem(text(certificate)?, text(key)?);
        certs = certs.with_identity(shown.map_err(|error| pems.identity_unusable(error).in_backend(BACKEND))?);
    }
    certs.build().map_err(|error| invalid("TLS: the certificates cannot be used").with_source(error))
}

/// The text may be secret, and the error does not quote it.
fn text(pem: &[u8]) -> Result<&str> {
    str::from_utf8(pem).map_err(|_| invalid("TLS: a PEM text is not UTF-8"))
}

/// Installs a default crypto provider if the program has not chosen one. The client library uses the default, and
/// rustls panics where several are compiled in and none is chosen.
fn provide() {
    if CryptoProvider::get_default().is_none() {
        // It fails if another part of the program has just chosen one, which will do.
        let _ = ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::RegistryTls;

    use super::*;
    use crate::registry::ZooKeeper;

    /// What has the outer form of PEM and nothing in it.
    const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (tls, host, why) in [
            (RegistryTls::with_system_roots(), "zk1", "name the certificate of the CA"),
            (RegistryTls::with_ca(NO_CERTIFICATE).expect("it looks like one"), "zk1", "the CA cannot be used"),
            (RegistryTls::with_system_roots(), "-zk1-", "no certificate can be for that name"),
        ] {
            let error = ZooKeeper::builder([host]).tls(tls).build().expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
