//! Failures of a request, and whether the server can have processed it.

use callboard_core::Code;
use h2::Reason;

use super::seen::{GoAway, Seen};
use super::{End, Parting};

/// How many bytes of a peer's text are quoted.
const SAID: usize = 128;

/// A peer's text for a message: one line of ASCII in quotes, shortened.
pub(crate) fn quoted(said: &[u8]) -> String {
    let (said, more) = said.split_at(said.len().min(SAID));
    format!("\"{}{}\"", said.escape_ascii(), if more.is_empty() { "" } else { "..." })
}

/// Why a request has no response. The variants say whether another attempt is safe.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It never left this process. It may be sent elsewhere any number of times.
    Unsent(String),
    /// The server has reported that it did not process it: REFUSED_STREAM, or a GOAWAY with a lower last stream id.
    Refused(String),
    /// The same, because the connection ended in good order: GOAWAY(NO_ERROR) with a lower last stream id.
    Overtaken(String),
    /// The server may have processed it.
    Broken(Code, String),
    /// It cannot be sent to this server in this form, and was not sent.
    Unsendable(Code, String),
    /// The caller's own request body failed.
    Body(tonic::Status),
}

impl Failure {
    /// The gRPC code of the failure. None if the server has not processed the request.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Broken(code, _) => Some(*code),
            _ => None,
        }
    }

    /// The failure that an error of a stream means. `left` is whether any of it was written; `ended` is why the whole
    /// connection ended, if it has.
    pub(super) fn of(error: &h2::Error, seen: &Seen, left: bool, ended: Option<&str>) -> Self {
        let refused = error.is_remote()
            && (error.is_go_away() || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM));
        let text = match ended {
            Some(why) if !error.is_reset() => why.to_owned(),
            _ => describe(error, seen),
        };
        // A GOAWAY also covers requests that were never sent. Those are unsent, not refused.
        if !left && !error.is_reset() {
            Self::Unsent(text)
        } else if refused && error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) {
            Self::Overtaken(text)
        } else if refused {
            Self::Refused(text)
        } else {
            Self::Broken(code_of(error), text)
        }
    }
}

/// The code that gRPC maps the reset of a stream to; UNAVAILABLE for the loss of a connection, no matter which side
/// ended it.
fn code_of(error: &h2::Error) -> Code {
    match error.reason() {
        Some(reason) if error.is_reset() => match reason {
            Reason::REFUSED_STREAM => Code::Unavailable,
            Reason::CANCEL => Code::Cancelled,
            Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
            Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
            _ => Code::Internal,
        },
        _ => Code::Unavailable,
    }
}

/// One line about an error of `h2`, with the debug data that the peer sent.
pub(super) fn describe(error: &h2::Error, seen: &Seen) -> String {
    let by = if error.is_remote() { "the server" } else { "this side" };
    match (error.reason(), error.get_io()) {
        (Some(reason), _) if error.is_go_away() => {
            let said = go_away(error, seen).map(|go_away| go_away.quoted()).unwrap_or_default();
            format!("{by} ended the connection with GOAWAY({reason:?}){said}")
        }
        (Some(reason), _) if error.is_reset() => format!("{by} reset the stream with RST_STREAM({reason:?})"),
        (_, Some(io)) if seen.is_flooded() => format!("this side ended the connection: {io}"),
        (_, Some(io)) => format!("the connection was lost: {io}"),
        _ => format!("the connection failed: {error}"),
    }
}

/// The GOAWAY that this error is about, if the server has sent one.
fn go_away(error: &h2::Error, seen: &Seen) -> Option<GoAway> {
    let by_server = error.is_go_away() && error.is_remote();
    seen.go_away().filter(|go_away| by_server && error.reason() == Some(go_away.code.into()))
}

impl GoAway {
    /// Whether it is gRPC's signal for too many PINGs. ENHANCE_YOUR_CALM alone may mean anything.
    fn is_too_many_pings(&self) -> bool {
        Reason::from(self.code) == Reason::ENHANCE_YOUR_CALM && self.debug == b"too_many_pings"
    }

    fn parting(&self) -> Parting {
        match Reason::from(self.code) {
            Reason::NO_ERROR => Parting::Announced,
            _ => Parting::Lost,
        }
    }

    /// Its debug data, for a message. Empty if there is none.
    fn quoted(&self) -> String {
        if self.debug.is_empty() { String::new() } else { format!(" and said {}", quoted(&self.debug)) }
    }
}

impl End {
    /// The end of a connection by this error.
    pub(super) fn by(error: &h2::Error, seen: &Seen) -> Self {
        let told = error.is_go_away() && error.is_remote();
        let parting = match error.reason().filter(|_| told) {
            _ if seen.is_flooded() => Parting::Flooded,
            Some(Reason::NO_ERROR) => Parting::Announced,
            Some(_) => Parting::Lost,
            None if error.is_io() => seen.go_away().map_or(Parting::Lost, |go_away| go_away.parting()),
            None => Parting::Broken,
        };
        let calm = go_away(error, seen).is_some_and(|go_away| go_away.is_too_many_pings());
        Self { why: describe(error, seen), calm, parting }
    }

    /// The end of a connection that the server has closed, after a GOAWAY perhaps.
    pub(super) fn closed(seen: &Seen) -> Self {
        let Some(go_away) = seen.go_away() else { return "the server closed the connection".into() };
        let (reason, said) = (Reason::from(go_away.code), go_away.quoted());
        let why = format!("the server ended the connection with GOAWAY({reason:?}){said}");
        Self { why, calm: go_away.is_too_many_pings(), parting: go_away.parting() }
    }
}

impl From<&str> for End {
    fn from(why: &str) -> Self {
        Self { why: why.to_owned(), ..Self::default() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use bytes::Bytes;
    use callboard_core::{Address, Result};
    use futures_core::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::transport::{Connection, ConnectionKey, Connector, Event, Opening, Outgoing, Settings, open};

    /// Gives out one end of a pipe.
    #[derive(Debug)]
    struct Pipe(Mutex<Option<DuplexStream>>);

    impl Connector for Pipe {
        fn connect<'a>(
            &'a self,
            _: &'a Address,
            _: &'a crate::transport::progress::Progress,
        ) -> BoxFuture<'a, Result<Box<dyn crate::transport::connector::Socket>>> {
            let end = self.0.lock().expect("no panic").take().expect("dialled once");
            Box::pin(async { Ok(Box::new(end) as _) })
        }
    }

    /// A connection whose other end buffers so many bytes unread.
    pub(in crate::transport) async fn connected(
        room: usize,
    ) -> (Arc<Connection>, DuplexStream, (Opening, mpsc::UnboundedReceiver<(ConnectionKey, Event)>)) {
        let (near, mut far) = tokio::io::duplex(room);
        let (reports, mut events) = mpsc::unbounded_channel();
        let address = "127.0.0.1:1".parse().expect("an address");
        let connector = Arc::new(Pipe(Mutex::new(Some(near))));
        let opening = open(ConnectionKey { by: 0, id: 1 }, address, connector, Settings::default(), reports);
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("SETTINGS");
        // The paused clock advances only when all tasks are idle: by then all that was written has been read.
        let read = async { while far.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        let _ = tokio::time::timeout(Duration::from_millis(1), read).await;
        let Some((_, Event::Ready(connection))) = events.recv().await else { panic!("it is not ready") };
        (connection, far, (opening, events))
    }

    async fn fails(connection: Arc<Connection>, body: usize) -> Failure {
        let slot = connection.try_reserve().expect("there is a slot");
        let head = http::Request::post("http://service/method").body(()).expect("a head");
        let mut sent = slot.send(head, Outgoing::Whole(Bytes::from(vec![0; body])), None).expect("a stream");
        let error = std::future::poll_fn(|cx| sent.poll_head(cx)).await.expect_err("no response");
        let (failure, body) = sent.failed(error).await;
        assert!(body.is_some(), "whatever may be done about it, nothing is lost");
        failure
    }

    #[test]
    fn what_a_peer_says_is_told_in_one_short_line() {
        assert_eq!(quoted(b"too_many_pings"), "\"too_many_pings\"");
        assert_eq!(quoted(b"a\n\x1b\"b\xff"), r#""a\n\x1b\"b\xff""#);
        assert_eq!(quoted(&[b'x'; 1_000]).len(), SAID + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_written_is_unsent_although_a_goaway_refuses_it_too() {
        let (connection, mut far, _held) = connected(1024).await;
        let first = tokio::spawn(fails(Arc::clone(&connection), 10_000));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = tokio::spawn(fails(Arc::clone(&connection), 10));
        tokio::time::sleep(Duration::from_millis(1)).await;
        // GOAWAY(NO_ERROR) with the last stream 0.
        far.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.expect("GOAWAY");
        let (first, second) = (first.await.expect("no panic"), second.await.expect("no panic"));
        assert!(matches!(first, Failure::Overtaken(_)), "{first:?}");
        assert!(matches!(second, Failure::Unsent(_)), "{second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_written_is_unsent_when_the_connection_is_lost_and_the_rest_is_broken() {
        let (connection, far, _held) = connected(1024).await;
        let first = tokio::spawn(fails(Arc::clone(&connection), 10_000));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = tokio::spawn(fails(Arc::clone(&connection), 10));
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(far);
        let (first, second) = (first.await.expect("no panic"), second.await.expect("no panic"));
        assert!(matches!(first, Failure::Broken(Code::Unavailable, _)), "{first:?}");
        assert!(matches!(second, Failure::Unsent(_)), "{second:?}");
    }
}
