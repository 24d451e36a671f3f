//! The PEM texts of one moment.

use std::fmt;

use super::pem::{Pem, unusable};
use crate::{BoxError, Error, Result};

/// The PEM texts of a [`RegistryTls`](crate::RegistryTls), as they were at one moment. Each is of the right form; whether
/// a certificate is valid and whether the key belongs to it is found by the client library that is given them.
#[derive(Clone, PartialEq)]
pub struct RegistryPems {
    pub(super) ca: Option<Pem>,
    pub(super) identity: Option<(Pem, Pem)>,
}

impl RegistryPems {
    /// The certificates of those that are trusted. None for the operating system's.
    pub fn ca(&self) -> Option<&[u8]> {
        self.ca.as_ref().map(Pem::text)
    }

    /// The same certificates in DER, one by one.
    pub fn ca_certificates(&self) -> Option<&[Vec<u8>]> {
        self.ca.as_ref().map(Pem::certificates)
    }

    /// The client's certificate and those of its chain in DER, its own first. None if no certificate is shown.
    pub fn identity_certificates(&self) -> Option<&[Vec<u8>]> {
        self.identity.as_ref().map(|(chain, _)| chain.certificates())
    }

    /// The client's certificate and its private key, which is secret. None if no certificate is shown.
    pub fn identity(&self) -> Option<(&[u8], &[u8])> {
        self.identity.as_ref().map(|(chain, key)| (chain.text(), key.text()))
    }

    /// The error for a CA that the client library cannot use: [`Invalid`](crate::ErrorKind::Invalid), naming the file if
    /// it is in one.
    pub fn ca_unusable(&self, error: impl Into<BoxError>) -> Error {
        let name = self.ca.as_ref().map_or("the system's certificates".into(), Pem::name);
        unusable(&name, error)
    }

    /// The error for one of the CA's certificates that the client library cannot use, by its place among
    /// [`ca_certificates`](Self::ca_certificates): [`Invalid`](crate::ErrorKind::Invalid), with the line in which it begins
    /// if there are several, and the file if it is in one.
    pub fn ca_certificate_unusable(&self, index: usize, error: impl Into<BoxError>) -> Error {
        match &self.ca {
            Some(ca) => unusable(&ca.certificate_name(index), error),
            None => self.ca_unusable(error),
        }
    }

    /// The error for a certificate and a key that the client library cannot use, or that do not belong together:
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the files if they are in some. The source must not quote the key.
    pub fn identity_unusable(&self, error: impl Into<BoxError>) -> Error {
        let names = self.identity.as_ref().map(|(chain, key)| format!("{} and {}", chain.name(), key.name()));
        unusable(names.as_deref().unwrap_or("the client certificate"), error)
    }

    pub(super) fn in_files(&self) -> bool {
        let parts = self.ca.iter().chain(self.identity.iter().flat_map(|(chain, key)| [chain, key]));
        parts.into_iter().any(|part| part.file().is_some())
    }

    /// The same, read again from the files.
    pub(super) fn read_again(&self) -> Result<Self> {
        let ca = self.ca.as_ref().map(Pem::read_again).transpose()?;
        let identity = match &self.identity {
            None => None,
            Some((chain, key)) => Some((chain.read_again()?, key.read_again()?)),
        };
        Ok(Self { ca, identity })
    }
}

/// Shows where they come from, and never their content.
impl fmt::Debug for RegistryPems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.identity.as_ref().map(|(chain, key)| [chain.name(), key.name()]);
        f.debug_struct("RegistryPems").field("ca", &self.ca.as_ref().map(Pem::name)).field("identity", &names).finish()
    }
}
