//! Reading JSON, so that an error names the field.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::short;

/// Reads JSON. The error names the field by its path.
pub(super) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| explained(&error))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// The path of the field that could not be read, as far as it is known, and why.
pub(super) fn explained<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let (path, why) = (error.path().to_string(), error.inner());
    match path.trim_end_matches(['.', '?']) {
        "" => short(&why.to_string()).into_owned(),
        path => format!("{}: {}", short(path), short(&why.to_string())),
    }
}
