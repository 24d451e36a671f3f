//! From what endpoints report to the weights of a walk.

use callboard_core::{MAX_WEIGHT, Members};

/// No weight counts as less than this part of the mean: gRPC's bounds in C++. A hundredth is seldom enough not to be seen
/// among the slowest hundredth of all calls, where there are several endpoints.
const LEAST: f64 = 0.01;

/// No weight counts as more than this many times the mean.
const MOST: f64 = 10.0;

/// The weights of a walk by measured weights, the registry's multiplied in. The largest is the highest that there is. None
/// if the measured ones make no difference: because fewer than two are known, or because they are all alike.
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
    // One that is to have calls has some, however few.
    Some(weights.into_iter().map(|weight| if weight > 0.0 { scale(weight).max(1) } else { 0 }).collect())
}
