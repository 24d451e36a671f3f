//! What fuzz targets reach. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use callboard_core::{Incarnation, Instance};

use crate::layout;

/// Whether a node of this name is a part of the service that it is below.
pub fn is_part(name: &str) -> bool {
    layout::is_part(name)
}

/// The id and the incarnation that the name of an instance's node has.
pub fn read(name: &str) -> Option<(&str, Incarnation)> {
    layout::read(name)
}

/// The name of an instance's node.
pub fn name(instance: &Instance) -> String {
    let path = layout::Place::new(String::new(), instance).path;
    path.trim_start_matches('/').to_owned()
}
