//! ZooKeeper, by as much of its protocol as it takes to make a node and to see it.

use std::io::{self, Error};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use callboard_servers::{Cluster, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Store;

const CREATE: i32 = 1;
const EXISTS: i32 = 3;
const NO_NODE: i32 = -101;

const LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Zookeeper;

#[async_trait]
impl Store for Zookeeper {
    fn setup(&self) -> Setup {
        Cluster::zookeeper()
    }

    async fn put(&self, address: SocketAddr) -> io::Result<()> {
        // Data, one entry in the list of who may do what: everyone everything; and no flags.
        let rest = [text("value"), number(1), number(31), text("world"), text("anyone"), number(0)].concat();
        match ask(address, CREATE, &[text("/key"), rest].concat()).await? {
            0 => Ok(()),
            code => Err(Error::other(format!("create: {code}"))),
        }
    }

    async fn has(&self, address: SocketAddr) -> io::Result<bool> {
        match ask(address, EXISTS, &[text("/key"), vec![0]].concat()).await? {
            0 => Ok(true),
            NO_NODE => Ok(false),
            code => Err(Error::other(format!("exists: {code}"))),
        }
    }
}

/// Makes one request in a session of its own, and gives the code of the answer.
async fn ask(address: SocketAddr, operation: i32, request: &[u8]) -> io::Result<i32> {
    let ask = async {
        let mut socket = TcpStream::connect(address).await?;
        // Version, last transaction seen, timeout in ms, session, password.
        let session = [number(0), vec![0; 8], number(5000), vec![0; 8], number(16), vec![0; 16]].concat();
        send(&mut socket, &session).await?;
        receive(&mut socket).await?;
        send(&mut socket, &[number(1), number(operation), request.to_vec()].concat()).await?;
        let answer = receive(&mut socket).await?;
        // After the number of the request and that of the transaction.
        let code = answer.get(12..16).and_then(|code| code.try_into().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(i32::from_be_bytes(code))
    };
    timeout(LIMIT, ask).await?
}

async fn send(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(&[number(bytes.len() as i32), bytes.to_vec()].concat()).await
}

async fn receive(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; socket.read_u32().await? as usize];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn number(number: i32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [number(text.len() as i32), text.as_bytes().to_vec()].concat()
}
