//! Holds the arrows between the crates and between the modules, and the rules about where things stand, by
//! `cargo metadata` and the source.
//!
//! Each rule is a function that returns complaints; a complaint says what to do.

mod circles;
mod crates;
mod files;
mod modules;
mod paths;
mod shape;
mod workspace;
