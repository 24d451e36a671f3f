//! Scales measured weights to the weights of a walk.

use callboard_core::{MAX_WEIGHT, Members};

/// The smallest weight, as a fraction of the mean: gRPC's bound in C++. If there are several endpoints, a hundredth is
/// so rare that a slow endpoint does not show in the 99th percentile of latency.
const LEAST: f64 = 0.01;

/// The largest weight, as a multiple of the mean.
const MOST: f64 = 10.0;

/// The weights of a walk: the measured weights times those in the registry, scaled so that the largest is
/// [`MAX_WEIGHT`]. None if the measured weights make no difference: fewer than two are known, or all are equal.
pub(crate) fn scaled(members: &Members, measured: &[Option<f64>]) -> Option<Vec<u16>> {
    let known: Vec<_> = measured.iter().flatten().copied().collect();
    if known.len() < 2 {
        return None;
    }
    // Divided before they are added, so that no sum can overflow.
    let mean: f64 = known.iter().map(|weight| weight / known.len() as f64).sum();
    let relative = |weight: f64| (weight / mean).clamp(LEAST, MOST);
    if known.iter().all(|weight| (relative(*weight) - 1.0).abs() < 0.5 / f64::from(u16::MAX)) {
        return None;
    }
    let listed: Vec<_> = members.ready().iter().map(|member| members[*member].weight()).collect();
    let none_asks = listed.iter().all(|weight| *weight == 0);
    let registry = |weight: u32| if none_asks { 1 } else { weight.min(MAX_WEIGHT) };
    let weights = measured.iter().zip(listed);
    let weights: Vec<_> =
        weights.map(|(weight, listed)| weight.map_or(1.0, relative) * f64::from(registry(listed))).collect();
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let scale = |weight: f64| (weight / largest * f64::from(u16::MAX)).round() as u16;
    // An endpoint with a positive weight gets at least a few calls.
    Some(weights.into_iter().map(|weight| if weight > 0.0 { scale(weight).max(1) } else { 0 }).collect())
}
