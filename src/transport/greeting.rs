//! Recognizes a peer that does not speak the expected protocol by its first bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::phase::Phase;

/// How many bytes are kept.
const MOST: usize = 512;
/// How many bytes of a line are shown.
const SHOWN: usize = 80;

const MEANT_TLS: &str = "did you mean https (ChannelBuilder::tls)?";
const MEANT_NO_TLS: &str = "did you mean http (no ChannelBuilder::tls)?";

/// The first bytes that a peer has sent. They are recorded as long as this value lives: while the connection opens.
#[derive(Debug)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

/// A socket whose first bytes are recorded.
#[derive(Debug)]
pub(super) struct Greeted<S> {
    socket: S,
    /// None once the bytes are not needed any more.
    greeting: Option<Weak<Mutex<Vec<u8>>>>,
}

impl<S> Greeted<S> {
    pub(super) fn new(socket: S) -> (Self, Greeting) {
        let heard = Arc::default();
        (Self { socket, greeting: Some(Arc::downgrade(&heard)) }, Greeting(heard))
    }

    fn note(&mut self, read: &[u8]) {
        let Some(greeting) = &self.greeting else { return };
        let Some(heard) = greeting.upgrade() else {
            self.greeting = None;
            return;
        };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST - heard.len();
        heard.extend_from_slice(&read[..room.min(read.len())]);
    }
}

impl Greeting {
    /// A message about the peer, if it does not speak the protocol of this phase. `encrypted` is whether the bytes came
    /// within TLS.
    pub(super) fn stranger(&self, phase: Phase, encrypted: bool) -> Option<String> {
        let heard = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match phase {
            _ if heard.is_empty() => None,
            Phase::Tls if is_tls(heard) => None,
            Phase::Http2 if is_http2(heard) => None,
            Phase::Tls if is_http2(heard) => Some(format!("the server speaks HTTP/2 in the clear: {MEANT_NO_TLS}")),
            Phase::Http2 if is_tls(heard) && !encrypted => Some(format!("the answer looks like TLS: {MEANT_TLS}")),
            _ => Some(spoken(heard, phase)),
        }
    }

    /// The probable reason why a peer has closed the connection without sending anything.
    pub(super) fn silence(&self, phase: Phase, encrypted: bool) -> Option<&'static str> {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        match phase {
            Phase::Http2 if silent && !encrypted => {
                Some("the server closed the connection and sent nothing: does it expect TLS (ChannelBuilder::tls)?")
            }
            Phase::Tls if silent => Some("the server closed the connection and sent nothing: does it expect no TLS?"),
            _ => None,
        }
    }
}

/// Whether this begins a TLS record: an alert or a handshake, of any version.
fn is_tls(heard: &[u8]) -> bool {
    matches!(heard, [0x15 | 0x16, 3, ..] | [0x15 | 0x16])
}

/// Whether this begins an HTTP/2 frame: at most 64 KiB long and of a known type.
fn is_http2(heard: &[u8]) -> bool {
    heard.first() == Some(&0) && heard.get(3).is_none_or(|kind| *kind <= 9)
}

/// A message about a peer that sends lines of text, or nothing that is known.
fn spoken(heard: &[u8], phase: Phase) -> String {
    let line = heard.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    let line = &line[..line.len().min(SHOWN)];
    let shown = String::from_utf8_lossy(line);
    let speaks_of_tls = || heard.windows(5).any(|word| word == b"HTTPS");
    if line.starts_with(b"HTTP/1.") && phase == Phase::Http2 && speaks_of_tls() {
        format!("the server answers in HTTP/1 ({shown:?}) and speaks of HTTPS: {MEANT_TLS}")
    } else if line.starts_with(b"HTTP/1.") {
        format!("the server answers in HTTP/1 ({shown:?}): it is no gRPC server, or not at this port")
    } else if line.starts_with(b"SSH-") {
        format!("the server speaks SSH ({shown:?}): it is no gRPC server, or not at this port")
    } else if !line.is_empty() && line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        format!("the server says {shown:?}, which is no {phase}")
    } else {
        let bytes: Vec<_> = heard.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("the server sends what is no {phase} (it begins with {})", bytes.join(" "))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.note(&buf.filled()[before..]);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn stranger(heard: &[u8], phase: Phase, encrypted: bool) -> Option<String> {
        Greeting(Arc::new(Mutex::new(heard.to_vec()))).stranger(phase, encrypted)
    }

    #[test]
    fn who_speaks_is_known_by_the_first_words() {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let alert = [0x15, 3, 1, 0, 2, 2, 70];
        for (heard, phase, encrypted, says) in [
            (&settings[..], Phase::Http2, false, None),
            (&settings[..2], Phase::Http2, true, None),
            (&settings, Phase::Tls, true, Some("HTTP/2 in the clear: did you mean http ")),
            (&alert, Phase::Tls, true, None),
            (&alert, Phase::Http2, false, Some("looks like TLS: did you mean https")),
            (&alert[..2], Phase::Http2, false, Some("looks like TLS: did you mean https")),
            (&alert, Phase::Http2, true, Some("no HTTP/2 (it begins with 15 03 01")),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Phase::Http2, true, Some(r#"HTTP/1 ("HTTP/1.1 400 Bad Request")"#)),
            (b"HTTP/1.0 400 Bad\n\nan HTTPS port", Phase::Http2, false, Some("did you mean https")),
            (b"HTTP/1.0 400 Bad\n\nan HTTPS port", Phase::Tls, true, Some("no gRPC server")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Phase::Tls, true, Some("speaks SSH (\"SSH-2.0-OpenSSH_9.2\")")),
            (b"220 mail ESMTP\r\n", Phase::Http2, false, Some("says \"220 mail ESMTP\", which is no HTTP/2")),
            (&[0xAB; 20], Phase::Http2, false, Some("begins with ab ab ab ab ab ab ab ab)")),
            (b"", Phase::Http2, false, None),
        ] {
            let said = stranger(heard, phase, encrypted);
            assert!(said.as_deref().unwrap_or_default().contains(says.unwrap_or_default()), "{heard:?}: {said:?}");
            assert_eq!(said.is_some(), says.is_some(), "{heard:?}: {said:?}");
        }
    }

    #[tokio::test]
    async fn no_more_is_kept_than_is_looked_at_and_nothing_once_nobody_looks() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (mut socket, greeting) = Greeted::new(near);
        let mut buffer = [0; 1000];
        for _ in 0..2 {
            far.write_all(&[7; 1000]).await.expect("room");
            socket.read_exact(&mut buffer).await.expect("what was written");
            assert_eq!(greeting.0.lock().expect("no panic").len(), MOST);
        }
        drop(greeting);
        far.write_all(b"x").await.expect("room");
        socket.read_exact(&mut buffer[..1]).await.expect("what was written");
        assert!(socket.greeting.is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_peer_says_is_shown_in_one_short_line(heard in prop::collection::vec(any::<u8>(), 0..MOST), tls in any::<bool>()) {
            let phase = if tls { Phase::Tls } else { Phase::Http2 };
            if let Some(said) = stranger(&heard, phase, tls) {
                prop_assert!(said.len() < 600 && !said.contains(char::is_control), "{said:?}");
            }
        }
    }
}
