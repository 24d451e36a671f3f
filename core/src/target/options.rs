//! The options in a dial URL's query.

use std::time::Duration;

use super::masked::{MASK, is_secret};
use super::{Target, invalid};
use crate::{Error, Result};

/// The options in the query of one [`Target`], read key by key.
///
/// # Contract
/// It is made once per target and passed as `&mut` to each part that has options to read: the backend of the scheme, the
/// balancer, the channel. Each asks for all of its own keys, whether they are there or not. Then [`finish`](Self::finish)
/// refuses keys that were not asked for, and lists those that were. An error shows the values of keys that were asked for,
/// unless the key's name is [that of a secret](Target), and of no others.
///
/// ```
/// use callboard_core::{Result, Target, TargetOptions};
/// use std::time::Duration;
///
/// fn backend(options: &mut TargetOptions<'_>) -> Result<Duration> {
///     Ok(options.duration("ttl")?.unwrap_or(Duration::from_secs(15)))
/// }
///
/// let target: Target = "etcd://localhost:2379/project/test?balancer=weighted&tll=5s".parse()?;
/// let mut options = target.options();
/// assert_eq!(options.text("balancer"), Some("weighted"));
/// backend(&mut options)?;
/// let error = options.finish().expect_err("a misspelt key");
/// assert!(error.to_string().ends_with(r#"unknown query key "tll" (known here: balancer, ttl)"#), "{error}");
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TargetOptions<'t> {
    target: &'t Target,
    asked: Vec<&'static str>,
}

impl<'t> TargetOptions<'t> {
    pub(super) fn new(target: &'t Target) -> Self {
        Self { target, asked: Vec::new() }
    }

    /// The value as it is, decoded. None if the key is absent.
    pub fn text(&mut self, key: &'static str) -> Option<&'t str> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.value(key)
    }

    /// A length of time: a whole number and `ms`, `s`, `m` or `h`, such as `15s`. None if the key is absent.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the value is something else.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<Duration>> {
        self.parsed(key, duration, "a duration such as 250ms, 15s, 2m or 1h")
    }

    /// A whole number. None if the key is absent.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the value is something else or does not fit into 64 bits.
    pub fn number(&mut self, key: &'static str) -> Result<Option<u64>> {
        self.parsed(key, number, "a whole number")
    }

    /// A flag: `true`, or the key alone, is true, and `false` is false. None if the key is absent.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the value is something else.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.parsed(key, flag, "true or false")
    }

    /// The error for a value that cannot be used. It names the URL, the key, the value unless it may be a secret, and what was
    /// expected, such as `at least 5s`.
    pub fn invalid(&self, key: &str, expected: &str) -> Error {
        let value = if self.is_plain(key) { self.value(key).unwrap_or_default() } else { MASK };
        self.refused(&format!("query key {key:?}: {value:?} is not what is expected: {expected}"))
    }

    /// Refuses a key that nobody reads, with an error that says what to write instead, such as `it is called "ttl"`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the query has this key.
    pub fn refuse(&self, key: &str, instead: &str) -> Result<()> {
        match self.value(key) {
            Some(_) => Err(self.refused(&format!("query key {key:?}: {instead}"))),
            None => Ok(()),
        }
    }

    /// The keys of the query that were asked for so far, with their values, sorted by key: all that the query has said to
    /// whoever has asked. Values may be secret.
    pub fn taken(&self) -> Vec<(&'t str, &'t str)> {
        let query = self.target.query.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut taken: Vec<_> = query.filter(|(key, _)| self.asked.contains(key)).collect();
        taken.sort_unstable();
        taken
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the query has keys that were not asked for. It names each, and all that
    /// were asked for.
    pub fn finish(self) -> Result<()> {
        let keys = self.target.query.iter().map(|(key, _)| key.as_str());
        let unknown: Vec<_> = keys.filter(|key| !self.asked.contains(key)).map(|key| format!("{key:?}")).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut asked = self.asked.clone();
        asked.sort_unstable();
        let known = if asked.is_empty() { "none".to_owned() } else { asked.join(", ") };
        let keys = if unknown.len() == 1 { "key" } else { "keys" };
        Err(self.refused(&format!("unknown query {keys} {} (known here: {known})", unknown.join(", "))))
    }

    /// Whether the value of this key may be shown: the key was asked for, and its name is not that of a secret.
    fn is_plain(&self, key: &str) -> bool {
        self.asked.contains(&key) && !is_secret(key)
    }

    fn refused(&self, why: &str) -> Error {
        invalid(self.target.shown(&|key| self.is_plain(key)), why)
    }

    fn value(&self, key: &str) -> Option<&'t str> {
        self.target.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn parsed<T>(&mut self, key: &'static str, parse: fn(&str) -> Option<T>, expected: &str) -> Result<Option<T>> {
        let Some(value) = self.text(key) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| self.invalid(key, expected))
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number(digits)?.checked_mul(factor).map(Duration::from_millis)
}

fn number(text: &str) -> Option<u64> {
    // `parse` alone would take a leading '+'.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "" | "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
