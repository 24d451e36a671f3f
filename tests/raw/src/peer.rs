//! One accepted connection.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::frame::{self, Event, HEADER, PREFACE};
use crate::stats::{Counters, Streams};
use crate::writer::Writer;

/// A request that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The stream.
    pub stream: u32,
    /// All of its body.
    pub body: Vec<u8>,
}

/// One accepted connection, as a script sees it. Nothing is sent by itself but what [`next`](Self::next) says. It
/// [is a writer](Deref).
///
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct Peer {
    socket: OwnedReadHalf,
    writer: Writer,
    streams: Arc<Streams>,
    counters: Arc<Counters>,
    number: usize,
    begun: bool,
    pongs: bool,
    windows: bool,
    bodies: HashMap<u32, Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(socket: TcpStream, counters: Arc<Counters>) -> Self {
        // Without delay, as every gRPC server has it. A failure means that the peer has gone; reading will say so.
        let _ = socket.set_nodelay(true);
        counters.change(|stats| {
            stats.accepted += 1;
            stats.connections += 1;
        });
        let number = counters.read().accepted;
        let (socket, write_half) = socket.into_split();
        let streams = Arc::new(Streams::new(Arc::clone(&counters)));
        let writer = Writer::new(write_half, Arc::clone(&streams));
        let bodies = HashMap::new();
        Self { socket, writer, streams, counters, number, begun: false, pongs: true, windows: true, bodies }
    }

    /// Which of its server's connections it is, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What to send with from elsewhere.
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// From here on PINGs are not answered.
    pub fn without_pongs(&mut self) {
        self.pongs = false;
    }

    /// From here on what is received does not open the windows again.
    pub fn without_windows(&mut self) {
        self.windows = false;
    }

    /// The next thing that the client says; None once it has closed the connection. SETTINGS are acknowledged, PINGs
    /// answered, and windows opened again by what was received, if that was not switched off.
    ///
    /// # Cancel safety
    /// Not cancel-safe: dropped in the middle of a frame, it loses its beginning.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.read().await.ok()?;
        match &event {
            Event::Settings(_) => self.writer.settings_ack(),
            Event::Ping(payload) if self.pongs => self.writer.pong(*payload),
            Event::Request { stream, end } => {
                self.streams.opened(*stream);
                self.note_end(*stream, *end);
            }
            Event::Data { stream, data, end } => {
                if self.windows && !data.is_empty() {
                    let length = u32::try_from(data.len()).expect("a frame is below 2^24 bytes");
                    self.writer.window(0, length);
                    self.writer.window(*stream, length);
                }
                self.note_end(*stream, *end);
            }
            Event::Reset { stream, .. } => self.streams.client_reset(*stream),
            _ => {}
        }
        Some(event)
    }

    /// The next request that has come to its end, as [`next`](Self::next) gives them.
    pub async fn request(&mut self) -> Option<Request> {
        loop {
            match self.next().await? {
                Event::Request { stream, end: true } => return Some(Request { stream, body: Vec::new() }),
                Event::Data { stream, data, end } => {
                    let body = self.bodies.entry(stream).or_default();
                    body.extend(data);
                    if end {
                        let body = self.bodies.remove(&stream).unwrap_or_default();
                        return Some(Request { stream, body });
                    }
                }
                Event::Reset { stream, .. } => drop(self.bodies.remove(&stream)),
                _ => {}
            }
        }
    }

    /// The stream of the next request, which may not have come to its end.
    pub async fn opened(&mut self) -> Option<u32> {
        loop {
            if let Event::Request { stream, .. } = self.next().await? {
                return Some(stream);
            }
        }
    }

    /// Reads on until the client closes, and answers no request.
    pub async fn ignore(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Cuts the connection with an RST, as when the process has died.
    pub fn cut(self) {
        // Closing sends RST instead of FIN with this.
        let _ = self.socket.as_ref().set_zero_linger();
    }

    fn note_end(&self, stream: u32, end: bool) {
        if end {
            self.streams.client_ended(stream);
        }
    }

    async fn read(&mut self) -> io::Result<Event> {
        if !self.begun {
            let mut preface = [0; PREFACE.len()];
            self.socket.read_exact(&mut preface).await?;
            if preface != PREFACE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.begun = true;
        }
        let mut header = [0; HEADER];
        self.socket.read_exact(&mut header).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.socket.read_exact(&mut payload).await?;
        Ok(frame::read(kind, flags, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload))
    }
}

impl Deref for Peer {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.writer.close();
        self.counters.change(|stats| stats.connections -= 1);
    }
}
