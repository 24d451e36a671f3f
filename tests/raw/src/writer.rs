//! The half of a connection that speaks.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::frame::{
    self, ACK, DATA, END_STREAM, GOAWAY, MAX_PAYLOAD, PADDED, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::stats::Streams;

/// Sends frames on one connection, in the order of the calls, without waiting. Clones send on the same one.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::UnboundedSender<Order>,
    streams: Arc<Streams>,
}

#[derive(Debug)]
enum Order {
    Write(Vec<u8>),
    /// The same, again whenever there is nothing else to do.
    Repeat(Vec<u8>),
    /// No more will be written: FIN.
    Finish,
    /// The other half is gone.
    Close,
}

/// The next order. There is always one where something is repeated.
async fn next(orders: &mut mpsc::UnboundedReceiver<Order>, repeated: Option<&Vec<u8>>) -> Option<Order> {
    let Some(bytes) = repeated else { return orders.recv().await };
    // Others of this thread have their turn as well.
    tokio::task::yield_now().await;
    match orders.try_recv() {
        Err(TryRecvError::Empty) => Some(Order::Repeat(bytes.clone())),
        other => other.ok(),
    }
}

impl Writer {
    pub(crate) fn new(mut socket: OwnedWriteHalf, streams: Arc<Streams>) -> Self {
        let (queue, mut orders) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut repeated = None;
            while let Some(order) = next(&mut orders, repeated.as_ref()).await {
                let done = match order {
                    Order::Write(bytes) => socket.write_all(&bytes).await,
                    Order::Repeat(bytes) => socket.write_all(repeated.insert(bytes)).await,
                    Order::Finish => socket.shutdown().await,
                    Order::Close => break,
                };
                if done.is_err() {
                    break;
                }
            }
            // Closing is left to the other half.
            socket.forget();
        });
        Self { queue, streams }
    }

    /// Sends bytes as they are.
    pub fn bytes(&self, bytes: Vec<u8>) {
        // The other end is gone only if the connection is.
        let _ = self.queue.send(Order::Write(bytes));
    }

    /// Sends bytes as they are, over and over and as fast as they are taken, until the connection ends or others are given.
    /// What else is to be sent is sent in between.
    pub fn flood(&self, bytes: Vec<u8>) {
        let _ = self.queue.send(Order::Repeat(bytes));
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn half_close(&self) {
        let _ = self.queue.send(Order::Finish);
    }

    /// SETTINGS.
    pub fn settings(&self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
        self.bytes(frame::frame(SETTINGS, 0, 0, &payload));
    }

    pub(crate) fn close(&self) {
        let _ = self.queue.send(Order::Close);
    }

    pub(crate) fn settings_ack(&self) {
        self.bytes(frame::frame(SETTINGS, ACK, 0, &[]));
    }

    pub(crate) fn pong(&self, payload: [u8; 8]) {
        self.bytes(frame::frame(PING, ACK, 0, &payload));
    }

    /// WINDOW_UPDATE of a stream, or of the connection, which is stream 0.
    pub fn window(&self, stream: u32, by: u32) {
        self.bytes(frame::frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes()));
    }

    /// A block of headers or of trailers.
    pub fn headers(&self, stream: u32, fields: &[(&str, &str)], end: bool) {
        self.note_end(stream, end);
        self.bytes(frame::headers(stream, fields, end));
    }

    /// DATA, whatever the windows allow.
    pub fn data(&self, stream: u32, data: &[u8], end: bool) {
        self.note_end(stream, end);
        let mut parts = data.chunks(MAX_PAYLOAD).peekable();
        if data.is_empty() {
            self.bytes(frame::frame(DATA, if end { END_STREAM } else { 0 }, stream, &[]));
        }
        while let Some(part) = parts.next() {
            let flags = if end && parts.peek().is_none() { END_STREAM } else { 0 };
            self.bytes(frame::frame(DATA, flags, stream, part));
        }
    }

    /// One frame of DATA with so many bytes of padding, whatever the windows allow. Of the windows it takes its length, the
    /// padding, and one byte.
    pub fn padded(&self, stream: u32, data: &[u8], padding: u8) {
        let payload = [&[padding], data, &vec![0; padding.into()]].concat();
        self.bytes(frame::frame(DATA, PADDED, stream, &payload));
    }

    /// A PING, which the peer has to answer.
    pub fn ping(&self, payload: [u8; 8]) {
        self.bytes(frame::frame(PING, 0, 0, &payload));
    }

    /// RST_STREAM.
    pub fn reset(&self, stream: u32, code: u32) {
        self.streams.reset(stream);
        self.bytes(frame::frame(RST_STREAM, 0, stream, &code.to_be_bytes()));
    }

    /// GOAWAY: streams above `last` have not been looked at.
    pub fn go_away(&self, last: u32, code: u32) {
        self.bytes(frame::frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()));
    }

    /// The head of a proper response.
    pub fn head(&self, stream: u32) {
        self.headers(stream, &[(":status", "200"), ("content-type", "application/grpc")], false);
    }

    /// One message of a response. It is callboard-echo's, and says which server it comes from.
    pub fn message(&self, stream: u32, server: &str) {
        self.data(stream, &message(server), false);
    }

    /// The end of a response.
    pub fn trailers(&self, stream: u32, status: &str) {
        self.headers(stream, &[("grpc-status", status)], true);
    }

    /// A whole response with one message.
    pub fn answer(&self, stream: u32, server: &str) {
        self.head(stream);
        self.message(stream, server);
        self.trailers(stream, "0");
    }

    /// A response that is all head: a status and nothing else.
    pub fn refuse(&self, stream: u32, status: &str) {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
        self.headers(stream, &fields, true);
    }

    fn note_end(&self, stream: u32, end: bool) {
        if end {
            self.streams.server_ended(stream);
        }
    }
}

/// gRPC's framing around an `EchoResponse` with nothing but its field 2, the server.
fn message(server: &str) -> Vec<u8> {
    let length = u8::try_from(server.len()).ok().filter(|length| *length < 126).expect("a server's name is short");
    let mut bytes = vec![0, 0, 0, 0, length + 2, 0x12, length];
    bytes.extend(server.as_bytes());
    bytes
}
