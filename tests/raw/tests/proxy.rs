//! What a proxy does with what comes, in each of its modes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use callboard_raw::{Mode, Port, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// On a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(30);
/// Time enough for what should not come.
const WHILE: Duration = Duration::from_millis(300);

/// A server that sends back what it is sent.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn connected(proxy: &Proxy) -> TcpStream {
    let mut socket = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    echoes(&mut socket, b"hello").await.expect("it passes");
    socket
}

async fn echoes(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes).await?;
    returns(socket, bytes).await
}

async fn returns(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut back = vec![0; bytes.len()];
    timeout(LIMIT, socket.read_exact(&mut back)).await.expect("what was sent comes back")?;
    assert_eq!(back, bytes);
    Ok(())
}

async fn is_closed(socket: &mut TcpStream) {
    let read = timeout(LIMIT, socket.read(&mut [0])).await.expect("the connection is closed");
    assert!(matches!(read, Ok(0) | Err(_)), "something was read: {read:?}");
}

#[tokio::test]
async fn everything_passes_and_so_does_the_end() {
    let proxy = Proxy::to(echo().await).await;
    let mut socket = connected(&proxy).await;
    let much: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
    let (mut from, mut to) = socket.split();
    let mut back = Vec::new();
    let send = async {
        to.write_all(&much).await.unwrap();
        to.shutdown().await.unwrap();
    };
    timeout(LIMIT, async { tokio::join!(send, from.read_to_end(&mut back)).1 }).await.unwrap().unwrap();
    assert_eq!(back, much);
}

#[tokio::test]
async fn refusing_closes_what_is_open_and_lets_nobody_in() {
    let proxy = Proxy::to(echo().await).await;
    let mut open = connected(&proxy).await;
    proxy.set(Mode::Refuse).await;
    is_closed(&mut open).await;
    for _ in 0..10 {
        let error = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    proxy.set(Mode::Pass).await;
    connected(&proxy).await;
}

#[tokio::test]
async fn a_black_hole_closes_nothing_and_passes_nothing_until_it_ends() {
    let proxy = Proxy::to(echo().await).await;
    let mut open = connected(&proxy).await;
    proxy.set(Mode::BlackHole).await;
    // New connections are accepted, as by a system whose program hangs.
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    for socket in [&mut open, &mut new] {
        socket.write_all(b"later").await.unwrap();
        assert!(timeout(WHILE, socket.read(&mut [0])).await.is_err(), "something passes, or the connection is closed");
    }
    proxy.set(Mode::Pass).await;
    returns(&mut open, b"later").await.unwrap();
    returns(&mut new, b"later").await.unwrap();
}

#[tokio::test]
async fn a_black_hole_may_turn_into_a_refusal() {
    let proxy = Proxy::to(echo().await).await;
    let mut open = connected(&proxy).await;
    proxy.set(Mode::BlackHole).await;
    open.write_all(b"lost").await.unwrap();
    proxy.set(Mode::Refuse).await;
    is_closed(&mut open).await;
}

#[tokio::test]
async fn a_delay_holds_in_each_direction_and_keeps_the_order() {
    let proxy = Proxy::to(echo().await).await;
    let mut open = connected(&proxy).await;
    let delay = Duration::from_millis(100);
    proxy.set(Mode::Delay(delay)).await;
    let start = Instant::now();
    for bytes in [b"1", b"2", b"3"] {
        open.write_all(bytes).await.unwrap();
    }
    returns(&mut open, b"123").await.unwrap();
    assert!(start.elapsed() >= 2 * delay, "it took only {:?}", start.elapsed());
    proxy.set(Mode::Pass).await;
    echoes(&mut open, b"at once").await.unwrap();
}

#[tokio::test]
async fn a_connection_to_nobody_is_closed() {
    let nobody = Port::free().unwrap();
    let proxy = Proxy::to(nobody.address()).await;
    is_closed(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
}

#[tokio::test]
async fn a_proxy_that_is_dropped_closes_its_connections() {
    let proxy = Proxy::to(echo().await).await;
    let mut open = connected(&proxy).await;
    drop(proxy);
    is_closed(&mut open).await;
}

#[tokio::test]
async fn a_switch_asks_where_a_connection_shall_go() {
    let target = echo().await;
    let welcome = tokio::net::TcpSocket::new_v4().unwrap();
    welcome.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let from = welcome.local_addr().unwrap();
    let proxy = Proxy::switch(Port::free().unwrap(), move |caller| (caller == from).then_some(target)).unwrap();
    is_closed(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
    let mut socket = welcome.connect(proxy.address()).await.unwrap();
    echoes(&mut socket, b"hello").await.unwrap();
}

#[tokio::test]
async fn a_port_stays_free_for_whoever_knows_it() {
    let port = Port::free().unwrap();
    assert_eq!(port.address().port(), port.number());
    for _ in 0..2 {
        let listener = TcpListener::bind(port.address()).await.unwrap();
        TcpStream::connect(port.address()).await.unwrap();
        drop(listener);
        let error = TcpStream::connect(port.address()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
