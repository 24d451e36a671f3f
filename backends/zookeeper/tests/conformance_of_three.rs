//! The ZooKeeper backend against the properties that every backend has, on an ensemble of three.

mod common;

callboard_conformance::suite!(common::Zoo::start(3).await, ignore = "needs ZooKeeper: make test");
