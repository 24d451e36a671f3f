//! etcd against the properties that every backend has.

mod common;

use common::Servers;

callboard_conformance::suite!(Servers::one().await, ignore = "needs etcd: make test");
callboard_conformance::suite_of_rights!(Servers::guarded().await, ignore = "needs etcd: make test");
