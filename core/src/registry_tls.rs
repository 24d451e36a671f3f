//! TLS to a registry, for a backend to hand to its client library.

mod pem;
mod pems;

use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::pem::{Part, Pem};
pub use self::pems::RegistryPems;
use crate::{Error, ErrorKind, Result, TargetOptions};

/// The keys of a dial URL. They say that it is the registry: `tls` alone would be read as TLS to the service's servers.
const TLS: &str = "registry_tls";
const CA: &str = "registry_ca";
const CERT: &str = "registry_cert";
const KEY: &str = "registry_key";

/// What is said of the key that could be either.
const WHICH_TLS: &str = "TLS to the registry is the key \"registry_tls\"; TLS to the service's servers is said by the \
                         client's program, with callboard's feature \"tls\": Dialer::new().builder(url)?.tls(Tls::…)";

/// How long the files may take to be read.
const READ: Duration = Duration::from_secs(1);

/// TLS to a registry: which servers are trusted, and which certificate a client presents. The certificate of a server must
/// be for the host at which it is reached.
///
/// A backend's builder takes one by `tls`, and its URL has the same by the keys `registry_tls`, `registry_ca`,
/// `registry_cert` and `registry_key`. This is about the way to the registry only: **it does not encrypt the calls**. TLS to
/// the servers of a service is a setting of the channel.
///
/// **Files are read again** whenever a backend connects, so that a certificate that is renewed on disk is used for the next
/// connection, without a restart. What is given as a text stays as it is. If a file cannot be read then, or is only half
/// written, a warning is logged and what was read before is used; the next connection reads again. A new file does not end
/// a connection. Write a new file beside the old one and rename it, so that it is never read half-written.
///
/// ```no_run
/// # fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// use callboard_core::RegistryTls;
///
/// let tls = RegistryTls::with_ca_file("ca.pem")?.identity_files("client.pem", "client.key")?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegistryTls {
    /// What was read last.
    latest: Arc<Mutex<Arc<RegistryPems>>>,
    /// Held while the files are read, so that a file system that does not answer holds up one thread and not many.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl RegistryTls {
    /// Trusts the certificate authorities in this PEM text, and no others.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), if the text has no certificate in it.
    pub fn with_ca(pem: impl Into<Vec<u8>>) -> Result<Self> {
        Ok(Self::of(Some(Pem::given(Part::Ca, pem.into())?), None))
    }

    /// Trusts the certificate authorities in this PEM file, and no others. It is read here, without async, and again at
    /// each connection.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the file, if it cannot be read or has no certificate in it.
    pub fn with_ca_file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::of(Some(Pem::in_file(Part::Ca, path.as_ref())?), None))
    }

    /// Trusts what the operating system trusts, if the backend's client library can do that.
    pub fn with_system_roots() -> Self {
        Self::of(None, None)
    }

    /// Presents this certificate to a server that asks for one: a PEM chain, the own certificate first, and its private
    /// key. None by default.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming which of the two is not what it should be.
    pub fn identity(self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Result<Self> {
        let chain = Pem::given(Part::Certificate, chain.into())?;
        Ok(self.showing(chain, Pem::given(Part::Key, key.into())?))
    }

    /// Presents the certificate in the first of these PEM files, with the private key in the second, as
    /// [`identity`](Self::identity) does with texts. They may be the same file. They are read here, without async, and
    /// again at each connection.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the file, if one cannot be read or is not what it should be.
    pub fn identity_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let chain = Pem::in_file(Part::Certificate, chain.as_ref())?;
        Ok(self.showing(chain, Pem::in_file(Part::Key, key.as_ref())?))
    }

    /// Reads it from a dial URL. None if the URL has no TLS. Called by backends.
    ///
    /// TLS is on with the key `registry_tls`, or with any of the others, which would be without effect otherwise:
    /// `registry_ca` names the file of the certificate authorities, `registry_cert` and `registry_key` those of the client's
    /// certificate and private key. The files are read here, and again at each connection.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the key: a file that cannot be read or has no such thing in it,
    /// `registry_cert` without `registry_key` or the reverse, or any of them beside `registry_tls=false`; and `tls`,
    /// `ca`, `cert` and `key`, which do not say that they are about the registry.
    pub fn from_options(options: &mut TargetOptions<'_>) -> Result<Option<Self>> {
        options.refuse("tls", WHICH_TLS)?;
        for (old, new) in [("ca", CA), ("cert", CERT), ("key", KEY)] {
            options.refuse(old, &format!("it is called {new:?}"))?;
        }
        let on = options.flag(TLS)?;
        let [ca, cert, key] = [CA, CERT, KEY].map(|name| options.text(name));
        let named = [(CA, ca), (CERT, cert), (KEY, key)].into_iter().find_map(|(name, path)| path.map(|_| name));
        match (on, named) {
            (Some(false), Some(name)) => {
                return Err(options.invalid(TLS, &format!("true, or nothing, beside {name:?}")));
            }
            (None | Some(false), None) => return Ok(None),
            _ => {}
        }
        let refused = |key, error: Error| {
            let expected = match error.source() {
                Some(_) => "a file that can be read".to_owned(),
                None => format!("a usable file ({})", error.message()),
            };
            options.invalid(key, &expected).with_source(error)
        };
        let tls = match ca {
            Some(path) => Self::with_ca_file(path).map_err(|error| refused(CA, error))?,
            None => Self::with_system_roots(),
        };
        match (cert, key) {
            (None, None) => Ok(Some(tls)),
            (Some(_), None) => {
                Err(options.invalid(CERT, &format!("{KEY:?} beside it, with the file of its private key")))
            }
            (None, Some(_)) => {
                Err(options.invalid(KEY, &format!("{CERT:?} beside it, with the file of its certificate")))
            }
            (Some(cert), Some(key)) => {
                let chain = Pem::in_file(Part::Certificate, cert.as_ref()).map_err(|error| refused(CERT, error))?;
                let key = Pem::in_file(Part::Key, key.as_ref()).map_err(|error| refused(KEY, error))?;
                Ok(Some(tls.showing(chain, key)))
            }
        }
    }

    /// The PEM texts as they were read last, without I/O: at the beginning, when this was made. Called by backends, to
    /// check them when settings are built.
    pub fn pems(&self) -> Arc<RegistryPems> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The PEM texts for a connection that is about to be made: the files are read again. Called by backends.
    ///
    /// It does not fail. If a file cannot be read now, a warning is logged and what was read last is returned. What has not
    /// changed is the same allocation ([`Arc::ptr_eq`]), so that a backend can make a new client only after a change.
    ///
    /// It has to be awaited within a tokio runtime with its timers on. It takes a second at most: the files are read on a
    /// thread for blocking work. Cancel-safe.
    pub async fn read_again(&self) -> Arc<RegistryPems> {
        let before = self.pems();
        if !before.in_files() {
            return before;
        }
        let turn = Arc::clone(&self.turn);
        let read = {
            let before = Arc::clone(&before);
            async move {
                let turn = turn.lock_owned().await;
                let read = spawn_blocking(move || (before.read_again(), turn).0);
                read.await.unwrap_or_else(|error| Err(unread(error.to_string())))
            }
        };
        match timeout(READ, read).await.unwrap_or_else(|_| Err(unread(format!("no answer within {READ:?}")))) {
            Ok(pems) => self.keep(pems),
            Err(error) => {
                tracing::warn!(error = error.chain(), "TLS: what was read before is used");
                self.pems()
            }
        }
    }

    fn keep(&self, pems: RegistryPems) -> Arc<RegistryPems> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if **latest != pems {
            tracing::debug!(?pems, "TLS: files have changed");
            *latest = Arc::new(pems);
        }
        Arc::clone(&latest)
    }

    fn showing(self, chain: Pem, key: Pem) -> Self {
        Self::of(self.pems().ca.clone(), Some((chain, key)))
    }

    fn of(ca: Option<Pem>, identity: Option<(Pem, Pem)>) -> Self {
        let pems = Arc::new(RegistryPems { ca, identity });
        Self { latest: Arc::new(Mutex::new(pems)), turn: Arc::default() }
    }
}

fn unread(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, "TLS: the files cannot be read").with_source(why)
}

impl fmt::Debug for RegistryTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryTls").field(&self.pems()).finish()
    }
}

#[cfg(test)]
mod tests;
