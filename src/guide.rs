//! Pages about the whole, beside what stands at each item.

#[doc = include_str!("../docs/guide/coming-from-tonic.md")]
pub mod coming_from_tonic {}

#[doc = include_str!("../docs/guide/who-may-write-what.md")]
pub mod who_may_write_what {}
