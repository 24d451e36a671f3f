//! The ZooKeeper backend against the properties that every backend has, on one server.

mod common;

callboard_conformance::suite!(common::Zoo::start(1).await, ignore = "needs ZooKeeper: make test");
callboard_conformance::suite_of_rights!(common::Zoo::guarded().await, ignore = "needs ZooKeeper: make test");
