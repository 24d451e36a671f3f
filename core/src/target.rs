//! A parsed dial URL.

mod masked;
mod options;
mod parse;

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use self::masked::MASK;
pub use self::masked::masked_url;
pub use self::options::TargetOptions;
use crate::{Error, Result, ServiceName};

/// A parsed dial URL: `scheme://[user[:password]@]host[:port][,host[:port]...]/service/name[?key=value&...]`.
///
/// It says where a service is looked up, and each backend reads it in its own way: the hosts are those of the registry
/// and may be absent (`memory:///project/test`); the path is the service, or has the service at its end; the query
/// holds options, whose keys are [checked](TargetOptions). User, password, path and query are percent-decoded. A
/// `/`, `?`, `#`, `@` or `%` that belongs to one of them is written `%2F`, `%3F`, `%23`, `%40` or `%25`.
///
/// Neither [`Debug`], [`Display`](fmt::Display) nor an error shows the password, a user without a password (it is often a
/// token), or the values of the query: `***` replaces them. An error of [`TargetOptions`] shows a value if its key was asked
/// for, and if the key's name does not contain `token`, `pass`, `pwd`, `secret`, `credential`, or `api` and `key`. The value
/// of an unknown key is never shown, because the key may be a misspelt one of these. Apart from that, what is printed is
/// parsed as the same target.
///
/// ```
/// use callboard_core::Target;
///
/// let target: Target = "etcd://app:hunter2@10.0.0.1:2379,10.0.0.2:2379/project/test?ttl=15s".parse()?;
/// assert_eq!(target.scheme(), "etcd");
/// assert_eq!(target.hosts(), ["10.0.0.1:2379", "10.0.0.2:2379"]);
/// assert_eq!(target.service()?.as_str(), "project/test");
/// assert_eq!(target.password(), Some("hunter2"));
/// assert_eq!(target.to_string(), "etcd://app:***@10.0.0.1:2379,10.0.0.2:2379/project/test?ttl=***");
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<String>,
    /// Begins with `/` and has more than that.
    path: String,
    /// Each key is there once.
    query: Vec<(String, String)>,
}

impl Target {
    /// The scheme, in lower case: `etcd`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user, decoded. None if there is no `@`, or nothing before it but a password.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, decoded. None if there is no `:` before the `@`.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The hosts in their order, each `host`, `host:port`, `[v6]` or `[v6]:port`. Empty if the URL names none.
    ///
    /// A host is not decoded: `%2Frun%2Fapp.sock` stays as it is, for a backend that reads it as a socket's path.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The whole path, decoded, with its leading `/`. For a backend whose path is more than the service, such as
    /// `file:///run/callboard/project/test`; the others ask for the [`service`](Self::service).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The service: the path without its leading `/`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if that is no [`ServiceName`].
    pub fn service(&self) -> Result<ServiceName> {
        let name = self.path.strip_prefix('/').unwrap_or(&self.path);
        ServiceName::new(name).map_err(|error| invalid(self, &format!("path: {}", error.message())))
    }

    /// Begins to read the options of the query. The caller also calls [`finish`](TargetOptions::finish), after all options
    /// were read.
    #[must_use = "options are read, and then finished so that unknown keys are refused"]
    pub fn options(&self) -> TargetOptions<'_> {
        TargetOptions::new(self)
    }
}

/// An error about a URL. The URL's printed form must be a masked one.
fn invalid(url: impl fmt::Display, why: &str) -> Error {
    Error::invalid(format!("URL {:?}: {why}", url.to_string()))
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // No reason quotes a part of the text: only the masked whole is sure to contain no part of a password.
        parse::target(text).map_err(|why| invalid(masked_url(text), &why))
    }
}

/// The characters that are written as they are in a user or password.
const USER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The characters that are encoded in a path.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'`')
    .add(b'{')
    .add(b'}');

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown(&|_| false).fmt(f)
    }
}

/// A target, and the keys of its query whose values may be shown.
struct Shown<'t> {
    target: &'t Target,
    plain: &'t dyn Fn(&str) -> bool,
}

impl Target {
    fn shown<'t>(&'t self, plain: &'t dyn Fn(&str) -> bool) -> Shown<'t> {
        Shown { target: self, plain }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { scheme, user, password, hosts, path, query } = self.target;
        write!(f, "{scheme}://")?;
        match (user, password) {
            (None, None) => {}
            (Some(_), None) => write!(f, "{MASK}@")?,
            (user, Some(_)) => {
                let user = user.as_deref().unwrap_or_default();
                write!(f, "{}:{MASK}@", utf8_percent_encode(user, USER))?;
            }
        }
        write!(f, "{}{}", hosts.join(","), utf8_percent_encode(path, PATH))?;
        if query.is_empty() {
            return Ok(());
        }
        let shown = query.iter().map(|(key, value)| (key, if (self.plain)(key) { value } else { MASK }));
        write!(f, "?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(shown).finish())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({:?})", self.to_string())
    }
}

#[cfg(test)]
mod tests;
