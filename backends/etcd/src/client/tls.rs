//! TLS settings in the form that the client library takes.

use callboard_core::RegistryPems;
use etcd_client::{Certificate, Identity, TlsOptions};

pub(super) fn options(pems: &RegistryPems, server_name: Option<&str>) -> TlsOptions {
    let plain = match pems.ca() {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    let named = server_name.into_iter().fold(plain, TlsOptions::domain_name);
    pems.identity().into_iter().fold(named, |options, (chain, key)| options.identity(Identity::from_pem(chain, key)))
}
