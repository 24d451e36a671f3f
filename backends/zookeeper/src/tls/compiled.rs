//! TLS, as the client library wants it.

use std::str;

use callboard_core::{RegistryTls, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use zookeeper_client::{Client, Connector, TlsOptions};

use crate::settings::invalid;

pub(crate) type Options = TlsOptions;

/// The options for this trust and this identity. The client library cannot read the system's certificates, and takes
/// the hosts' names on trust.
pub(crate) fn options(tls: &RegistryTls, hosts: &str) -> Result<Options> {
    for host in hosts.split(',') {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        ServerName::try_from(name).map_err(|error| {
            invalid(format!("host {host:?}: no certificate can be for that name")).with_source(error)
        })?;
    }
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

pub(crate) async fn connect(
    connector: Connector,
    options: &Options,
    hosts: &str,
) -> Result<Client, zookeeper_client::Error> {
    provide();
    connector.with_tls(options.clone()).secure_connect(hosts).await
}

/// Has a provider of cryptography, if the program has not chosen one: the client library asks for the program's, and
/// rustls panics where several are compiled in and none is chosen.
fn provide() {
    if CryptoProvider::get_default().is_none() {
        // It fails if somebody else has just chosen one, which is as good.
        let _ = ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ZooKeeper;

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
