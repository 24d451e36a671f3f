//! Three members of etcd against the properties that every backend has.

mod common;

use common::Servers;

callboard_conformance::suite!(Servers::three().await, ignore = "needs etcd: make test");
