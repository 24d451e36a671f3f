//! Behind real proxies. Each module needs the one that it is named after; `make test` leaves out those that cannot be had.

mod envoy;
mod haproxy;
mod nghttpx;
mod nginx;
mod servers;
