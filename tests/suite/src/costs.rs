//! What a test takes of the machine. A test that waits for most of its time takes one place of those that there are.

use std::io;

use crate::programs::Program;

/// Programs whose tests take more than one place: they start three servers each, or Java.
const HEAVY: &[(&str, usize)] = &[
    ("callboard-zookeeper/conformance_of_three", 4),
    ("callboard-etcd/conformance_three", 3),
    ("callboard-consul/conformance_three", 3),
    ("callboard-servers/real", 3),
    ("callboard-interop/suite", 4),
    ("callboard-core/simulation", 4),
    ("callboard-interleavings/", 2),
    ("callboard-proxy-tests/real", 2),
    ("callboard-registry-tests/", 2),
];

/// Programs that measure time, or that keep the processors busy: two of their tests are run at once, and nothing beside.
const MEASURING: &[&str] = &[
    "callboard/deadlines_unpolled",
    "callboard/fair_places",
    "callboard/faults_neighbours",
    "callboard/hostile",
    "callboard/load_reports",
    "callboard/lookaside_load",
    "callboard/shared_deadlines",
    "callboard/soak",
    "callboard/windows",
    "callboard/windows_grpc_go",
    "callboard/young_connections",
    "callboard-consul/many",
    "callboard-consul/scripted",
    "callboard-etcd/costs",
    "callboard-etcd/many",
    "callboard-zookeeper/scale",
];

/// Programs that keep all processors busy themselves.
const ALONE: &[&str] = &["callboard/load_neighbour"];

/// Programs that take long, though they wait.
const SLOW: &[&str] =
    &["callboard-core/crowd", "callboard-core/simulation", "callboard/faults_memory", "callboard/lookaside_faults"];

/// How many of `places` a test of this program takes.
pub(crate) fn of(program: &str, places: usize) -> usize {
    let heavy = HEAVY.iter().find(|(name, _)| program.starts_with(name));
    let cost = match heavy {
        _ if ALONE.contains(&program) => places,
        _ if MEASURING.contains(&program) => places.div_ceil(2),
        Some((_, cost)) => *cost,
        None => 1,
    };
    cost.min(places)
}

/// Whether nothing that is not measured itself runs beside it.
pub(crate) fn is_quiet(program: &str) -> bool {
    MEASURING.contains(&program) || ALONE.contains(&program)
}

/// Whether who is in a hurry does without it.
pub(crate) fn is_slow(program: &str) -> bool {
    SLOW.contains(&program) || is_quiet(program)
}

/// Each name in these lists must be that of a program, or begin one.
pub(crate) fn check(programs: &[Program]) -> io::Result<()> {
    let heavy = HEAVY.iter().map(|(name, _)| name);
    let mut names = heavy.chain(MEASURING).chain(ALONE).chain(SLOW);
    match names.find(|name| !programs.iter().any(|program| program.name.starts_with(**name))) {
        Some(gone) => {
            Err(io::Error::other(format!("tests/suite/src/costs.rs names {gone}, and there is no such program")))
        }
        None => Ok(()),
    }
}
