//! The guide: pages on topics that span several items.
//!
//! | to learn about | read |
//! |---|---|
//! | etcd, ZooKeeper, Consul, files, and what is stored in them | [`registries`] |
//! | balancers, weights, and what a call costs | [`balancing`] |
//! | service configs, deadlines and retries | [`service_config_and_retries`] |
//! | servers that report their load to clients | [`load_reports`] |
//! | balancers that run outside the clients | [`external_balancers`] |
//! | running a server, and stopping it without losing a call | [`serving_and_draining`] |
//! | TLS, and the name that a certificate must have | [`tls`] |
//! | what happens when something fails | [`failures`] |
//! | logs, readiness, weights at run time | [`operating`] |
//! | tests of your own service | [`testing`] |
//! | a registry of your own | [`writing_a_backend`] |
//! | a balancer of your own | [`writing_a_balancer`] |
//! | moving from tonic's own channel | [`coming_from_tonic`] |
//! | which rights to give in a registry | [`who_may_write_what`] |
// The pages link to each other by file names, which work in the repository. In rustdoc, the definitions before each
// page replace those links: the first definition of a link counts.

/// [external-balancers]: external_balancers
/// [load-reports]: load_reports
/// [operating]: operating
/// [service-config]: service_config_and_retries
/// [writing-a-balancer]: writing_a_balancer
#[doc = ""]
#[doc = include_str!("../docs/guide/balancing.md")]
pub mod balancing {}

#[doc = include_str!("../docs/guide/coming-from-tonic.md")]
pub mod coming_from_tonic {}

#[doc = include_str!("../docs/guide/external-balancers.md")]
pub mod external_balancers {}

/// [operating]: operating
#[doc = ""]
#[doc = include_str!("../docs/guide/failures.md")]
pub mod failures {}

#[doc = include_str!("../docs/guide/load-reports.md")]
pub mod load_reports {}

/// [balancing]: balancing
/// [service-config]: service_config_and_retries
#[doc = ""]
#[doc = include_str!("../docs/guide/operating.md")]
pub mod operating {}

/// [tls]: tls
/// [who-may-write-what]: who_may_write_what
/// [writing-a-backend]: writing_a_backend
#[doc = ""]
#[doc = include_str!("../docs/guide/registries.md")]
pub mod registries {}

#[doc = include_str!("../docs/guide/service-config-and-retries.md")]
pub mod service_config_and_retries {}

#[doc = include_str!("../docs/guide/serving-and-draining.md")]
pub mod serving_and_draining {}

#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}

// The page's code needs the feature.
#[cfg_attr(feature = "tls", doc = include_str!("../docs/guide/tls.md"))]
#[cfg_attr(not(feature = "tls"), doc = "TLS of the calls. The page is there with the feature `tls`.")]
pub mod tls {}

#[doc = include_str!("../docs/guide/who-may-write-what.md")]
pub mod who_may_write_what {}

#[doc = include_str!("../docs/guide/writing-a-backend.md")]
pub mod writing_a_backend {}

/// [service-config]: service_config_and_retries
#[doc = ""]
#[doc = include_str!("../docs/guide/writing-a-balancer.md")]
pub mod writing_a_balancer {}
