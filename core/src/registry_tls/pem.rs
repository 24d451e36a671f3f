//! One PEM text, and where it comes from.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{BoxError, Error, ErrorKind, Result};

/// What a PEM text has to contain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    Ca,
    Certificate,
    Key,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Ca => "the CA",
            Self::Certificate => "the client certificate",
            Self::Key => "the client's private key",
        }
    }
}

/// A PEM text with the expected content. It may be secret, and is never shown.
#[derive(Clone, PartialEq)]
pub(super) struct Pem {
    part: Part,
    /// None if the text itself was given.
    file: Option<PathBuf>,
    text: Vec<u8>,
    /// The certificates in it, in DER. None in a private key's.
    certificates: Vec<Vec<u8>>,
}

impl Pem {
    pub(super) fn given(part: Part, text: Vec<u8>) -> Result<Self> {
        Self { part, file: None, text, certificates: Vec::new() }.checked()
    }

    pub(super) fn in_file(part: Part, path: &Path) -> Result<Self> {
        Self { part, file: Some(path.to_owned()), text: Vec::new(), certificates: Vec::new() }.read()
    }

    /// The same, read again from its file.
    pub(super) fn read_again(&self) -> Result<Self> {
        if self.file.is_some() { self.clone().read() } else { Ok(self.clone()) }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// What one of the certificates is: in a text with several, also which one, and the line in which it begins.
    pub(super) fn certificate_name(&self, index: usize) -> String {
        let begins = |line: &[u8]| line.trim_ascii().starts_with(b"-----BEGIN CERTIFICATE-----");
        let lines = self.text.split(|byte| *byte == b'\n').enumerate();
        let starts: Vec<usize> = lines.filter(|(_, line)| begins(line)).map(|(number, _)| number + 1).collect();
        match starts.get(index) {
            Some(line) if starts.len() > 1 => {
                let count = starts.len();
                format!("{}: certificate {} of {count}, which begins in line {line},", self.name(), index + 1)
            }
            _ => self.name().into_owned(),
        }
    }

    /// What it is, and which file it is in.
    pub(super) fn name(&self) -> Cow<'static, str> {
        match &self.file {
            None => self.part.name().into(),
            Some(file) => format!("{} (file {file:?})", self.part.name()).into(),
        }
    }

    fn read(mut self) -> Result<Self> {
        let Some(file) = &self.file else { return Ok(self) };
        self.text = fs::read(file).map_err(|error| self.error("cannot be read").with_source(error))?;
        self.checked()
    }

    fn checked(mut self) -> Result<Self> {
        match self.part {
            Part::Ca | Part::Certificate => self.certificates = self.read_certificates()?,
            // The reader's own error could quote the text, which is secret.
            Part::Key if PrivateKeyDer::from_pem_slice(&self.text).is_err() => {
                return Err(self.error("has no private key in PEM form"));
            }
            Part::Key => {}
        }
        Ok(self)
    }

    /// The certificates, of which each is whole. What is in them is for the client library to check.
    fn read_certificates(&self) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&self.text) {
            // The reader's own error could quote the text, which may be a key by mistake.
            let bad = |_| Error::invalid(format!("TLS: {} cannot be used", self.certificate_name(found.len())));
            let certificate = certificate.map_err(bad)?;
            found.push(certificate.to_vec());
        }
        if found.is_empty() { Err(self.error("has no certificate in PEM form")) } else { Ok(found) }
    }

    fn error(&self, why: &str) -> Error {
        let file = self.file.as_ref().map(|file| format!(" (file {file:?})")).unwrap_or_default();
        Error::invalid(format!("TLS: {} {why}{file}", self.part.name()))
    }
}

/// What a client library could not use, by name, and what it says.
pub(super) fn unusable(what: &str, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Invalid, format!("TLS: {what} cannot be used")).with_source(error)
}
