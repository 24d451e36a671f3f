//! Whose a connection is, as Linux tells it.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

/// Which of these processes has opened a connection from one address to another, by its place in the list. None if none
/// has, or the system does not tell.
pub(crate) fn of(from: SocketAddr, to: SocketAddr, processes: &[u32]) -> Option<usize> {
    let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, from, to)?;
    processes.iter().position(|process| holds(*process, &inode))
}

/// Whether the system tells.
pub(crate) fn is_told() -> bool {
    Path::new("/proc/net/tcp").exists()
}

/// The number of the socket, by the system's table of connections.
fn inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<String> {
    let (from, to) = (written(from)?, written(to)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == from && fields.next()? == to).then(|| fields.nth(6)).flatten().map(str::to_owned)
    })
}

/// As the table has it: the address as a number in the machine's order of bytes.
fn written(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let number = |address: SocketAddrV4| u32::from_ne_bytes(address.ip().octets());
    Some(format!("{:08X}:{:04X}", number(address), address.port()))
}

fn holds(process: u32, inode: &str) -> bool {
    let socket = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&socket)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_of_ours_is_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let connection = TcpStream::connect(to).unwrap();
        let from = connection.local_addr().unwrap();
        assert_eq!(of(from, to, &[0, std::process::id()]), Some(1));
        assert_eq!(of(from, to, &[1]), None);
        assert_eq!(of(to, to, &[std::process::id()]), None);
    }
}
