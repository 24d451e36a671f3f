//! The balancer that a service asks for, and its settings.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::json::{explained, from_text};
use super::object::Object;
use crate::{Error, Result};

/// One balancer that a service asks for, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    /// Its name: one of gRPC's, or that of a balancer of the user's own.
    pub name: String,
    /// Its settings in the config.
    pub settings: BalancerSettings,
}

impl PolicyConfig {
    /// This balancer, without settings.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { settings: BalancerSettings::new(&*name), name }
    }
}

/// A balancer's settings: a JSON object. Empty if there are none.
///
/// ```
/// use callboard_core::BalancerSettings;
///
/// #[derive(Debug, Default, serde::Deserialize)]
/// #[serde(rename_all = "camelCase", default)]
/// struct Settings {
///     choice_count: u32,
/// }
///
/// let settings = BalancerSettings::parse("fewest", r#"{"choiceCount": 3}"#)?;
/// assert_eq!(settings.read::<Settings>()?.choice_count, 3);
///
/// let error = BalancerSettings::parse("fewest", r#"{"choiceCount": -1}"#)?.read::<Settings>().expect_err("no count");
/// assert!(error.to_string().starts_with("settings of balancer \"fewest\": choiceCount: "), "{error}");
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalancerSettings {
    balancer: String,
    fields: Map<String, Value>,
}

impl BalancerSettings {
    /// No settings, for the balancer of this name.
    pub fn new(balancer: impl Into<String>) -> Self {
        Self::of(balancer.into(), Map::new())
    }

    /// Settings for the balancer of this name, from a JSON object: for tests of balancers.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if it is no JSON object.
    pub fn parse(balancer: impl Into<String>, json: &str) -> Result<Self> {
        let balancer = balancer.into();
        match from_text(json) {
            Ok(fields) => Ok(Self::of(balancer, fields)),
            Err(why) => Err(refused(&balancer, &why)),
        }
    }

    pub(super) fn of(balancer: String, fields: Map<String, Value>) -> Self {
        Self { balancer, fields }
    }

    /// Reads them as a type of the balancer's own. Unknown fields should be ignored, as gRPC does: leave out serde's
    /// `deny_unknown_fields`, and give defaults. The names of fields may be in any case, as in Go.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the balancer and the field.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let read = serde_path_to_error::deserialize(&self.fields);
        read.map(|Object(settings)| settings).map_err(|error| refused(&self.balancer, &explained(&error)))
    }

    /// The error for settings that can be read but make no sense. `why` names the field.
    pub fn invalid(&self, why: &str) -> Error {
        refused(&self.balancer, why)
    }
}

fn refused(balancer: &str, why: &str) -> Error {
    Error::invalid(format!("settings of balancer {balancer:?}: {why}"))
}

/// An object with one key.
impl TryFrom<Map<String, Value>> for PolicyConfig {
    type Error = String;

    fn try_from(object: Map<String, Value>) -> Result<Self, String> {
        let count = object.len();
        let mut entries = object.into_iter();
        let (Some((name, settings)), None) = (entries.next(), entries.next()) else {
            return Err(format!("an object of one key, the balancer's name, is expected; this one has {count}"));
        };
        let fields = match settings {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(format!("the settings of balancer {name:?} are no object")),
        };
        Ok(Self { settings: BalancerSettings::of(name.clone(), fields), name })
    }
}

impl<'de> Deserialize<'de> for PolicyConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}
