//! Consul, by its store of keys and values.

use std::io::{self, Error};
use std::net::SocketAddr;

use async_trait::async_trait;
use callboard_servers::{Cluster, Setup, ask};

use super::Store;

pub(crate) struct Consul;

#[async_trait]
impl Store for Consul {
    fn setup(&self) -> Setup {
        Cluster::consul()
    }

    async fn put(&self, address: SocketAddr) -> io::Result<()> {
        let answer = ask::http(address, "PUT", "/v1/kv/key", &[], "value").await?;
        if answer.status == 200 { Ok(()) } else { Err(Error::other(format!("{answer:?}"))) }
    }

    async fn has(&self, address: SocketAddr) -> io::Result<bool> {
        let answer = ask::http(address, "GET", "/v1/kv/key?raw", &[], "").await?;
        match answer.status {
            200 => Ok(answer.body == "value"),
            404 => Ok(false),
            _ => Err(Error::other(format!("{answer:?}"))),
        }
    }
}
