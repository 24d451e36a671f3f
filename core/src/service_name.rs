//! The name of a service.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, Result};

/// The longest name that is accepted, in bytes. Every registry that callboard writes to can hold it.
const MAX_LENGTH: usize = 255;

/// The name of a service, such as `project/test`: one or more segments of `[A-Za-z0-9._-]` joined by `/`.
///
/// A segment is never empty, `.` or `..`, so that a name is safe as a path in a registry or in a file system, and no
/// service's name can reach into another's. Cloning is cheap.
///
/// ```
/// use callboard_core::ServiceName;
///
/// let service: ServiceName = "project/test".parse()?;
/// assert_eq!(service.as_str(), "project/test");
/// assert!("project//test".parse::<ServiceName>().is_err());
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), with the reason, if the name is not as the type says.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        match complaint(name) {
            None => Ok(Self(name.into())),
            Some(why) => Err(Error::invalid(format!("service name {name:?}: {why}"))),
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments in order. There is at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

fn complaint(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_LENGTH {
        return Some("it is longer than 255 bytes");
    }
    name.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment (a leading, trailing or doubled '/')"),
        "." | ".." => Some("a segment is '.' or '..'"),
        _ if segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => None,
        _ => Some("allowed are letters, digits, '.', '_', '-', and '/' between segments"),
    })
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_names_are_refused_with_the_name_and_the_reason() {
        for (name, why) in [
            ("", "empty"),
            ("/a", "empty segment"),
            ("a/", "empty segment"),
            ("a//b", "empty segment"),
            ("a/../b", "'..'"),
            (".", "'.'"),
            ("a b", "allowed"),
            ("grüße", "allowed"),
            ("a\0", "allowed"),
            (&"x".repeat(256), "255"),
        ] {
            let error = ServiceName::new(name).expect_err(name);
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_well_formed_name_is_kept_as_it_is(name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}){0,5}") {
            let service = ServiceName::new(&name).expect("well-formed");
            prop_assert_eq!(service.to_string(), name.as_str());
            prop_assert_eq!(service.segments().collect::<Vec<_>>().join("/"), name);
        }

        #[test]
        fn any_text_is_refused_or_kept_and_never_panics(name in "\\PC{0,300}") {
            if let Ok(service) = ServiceName::new(&name) {
                prop_assert_eq!(service.as_str(), name.as_str());
                prop_assert!(service.segments().all(|s| !s.is_empty() && s != "." && s != ".."));
            }
        }
    }
}
