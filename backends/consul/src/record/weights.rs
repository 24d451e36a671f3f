//! An instance's weight, as Consul holds it.

use serde::{Deserialize, Serialize};

/// An entry's `Weights`. Consul's DNS answers by them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    passing: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<i64>,
}

impl Weights {
    /// The weights of an instance, as near as Consul can hold them.
    pub(super) fn of(weight: u32) -> Self {
        Self { passing: held_weight(weight).into(), warning: Some(1) }
    }

    /// The weight of an entry whose checks pass.
    pub(super) fn passing(self) -> u32 {
        u32::try_from(self.passing.max(0)).unwrap_or(u32::MAX)
    }
}

/// The weight that Consul can hold which comes nearest.
pub(super) fn held_weight(weight: u32) -> u32 {
    weight.clamp(1, 65_535)
}
