//! What fuzz targets call. It is compiled with `--cfg fuzzing` only and is not part of the API.

use callboard_core::{Incarnation, Instance};

use crate::record;

/// Whether a node of this name is a part of the service that it is below.
pub fn is_part(name: &str) -> bool {
    record::is_part(name)
}

/// The id and the incarnation that the name of an instance's node has.
pub fn read(name: &str) -> Option<(&str, Incarnation)> {
    record::read(name)
}

/// The name of an instance's node.
pub fn name(instance: &Instance) -> String {
    let path = record::Place::new(String::new(), instance).path;
    path.trim_start_matches('/').to_owned()
}
