//! TLS, as the client library wants it.

use callboard_core::RegistryTls;
use etcd_client::{Certificate, Identity, TlsOptions};

pub(crate) fn options(tls: &RegistryTls, server_name: Option<&str>) -> TlsOptions {
    let plain = match tls.ca_pem() {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    let named = server_name.into_iter().fold(plain, TlsOptions::domain_name);
    tls.identity_pem().into_iter().fold(named, |options, (chain, key)| options.identity(Identity::from_pem(chain, key)))
}
