//! A server made of frames that keeps to the client's windows.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;

use callboard_interop::pb::{Payload, SimpleRequest, SimpleResponse};
use callboard_raw::{Event, Peer, Writer, setting};
use prost::Message;

/// What HTTP/2 begins with.
const WINDOW: i64 = 65_535;
/// gRPC's prefix of a message.
const PREFIX: usize = 5;

/// A call whose request has come to its end.
pub struct Asked {
    pub stream: u32,
    pub request: SimpleRequest,
}

impl Asked {
    /// The response that is wanted, as bytes of DATA.
    pub fn response(&self) -> Vec<u8> {
        let payload = Some(Payload::zeros(usize::try_from(self.request.response_size).unwrap()));
        let message = SimpleResponse { payload, ..SimpleResponse::default() }.encode_to_vec();
        [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), message.as_slice()].concat()
    }
}

/// How DATA is cut into frames.
#[derive(Clone, Copy)]
pub struct Cut {
    /// How much of it is in one frame.
    pub size: usize,
    pub padding: Option<u8>,
}

/// Frames as large as all peers take them.
pub const LARGE: Cut = Cut { size: 16_384, padding: None };

/// One accepted connection. It is a writer.
pub struct Server {
    peer: Peer,
    bodies: HashMap<u32, Vec<u8>>,
    asked: VecDeque<Asked>,
    /// What the client takes of all streams, and of each.
    connection: i64,
    streams: HashMap<u32, i64>,
    /// What it takes of a new stream.
    initial: i64,
    /// PINGs that were answered.
    pub pongs: usize,
}

impl Server {
    pub fn new(peer: Peer) -> Self {
        let (bodies, streams) = (HashMap::new(), HashMap::new());
        let asked = VecDeque::new();
        Self { peer, bodies, asked, connection: WINDOW, streams, initial: WINDOW, pongs: 0 }
    }

    /// The next call whose request has come to its end. None once the client has closed.
    pub async fn asked(&mut self) -> Option<Asked> {
        while self.asked.is_empty() {
            self.step().await?;
        }
        self.asked.pop_front()
    }

    /// Sends DATA as the windows open. None if the client closes before, or resets the stream.
    pub async fn send(&mut self, stream: u32, data: &[u8], cut: Cut) -> Option<()> {
        for part in data.chunks(cut.size) {
            let taken = i64::try_from(part.len()).unwrap() + cut.padding.map_or(0, |padding| i64::from(padding) + 1);
            while self.connection < taken || *self.streams.get(&stream)? < taken {
                self.step().await?;
            }
            self.connection -= taken;
            *self.streams.get_mut(&stream)? -= taken;
            match cut.padding {
                Some(padding) => self.peer.padded(stream, part, padding),
                None => self.peer.data(stream, part, false),
            }
        }
        Some(())
    }

    /// Takes in the next thing that the client says.
    pub async fn step(&mut self) -> Option<()> {
        match self.peer.next().await? {
            Event::Settings(settings) => self.set(&settings),
            Event::Window { stream: 0, by } => self.connection += i64::from(by),
            Event::Window { stream, by } => *self.streams.entry(stream).or_default() += i64::from(by),
            Event::Request { stream, .. } => drop(self.streams.insert(stream, self.initial)),
            Event::Data { stream, data, end } => self.take(stream, &data, end),
            Event::Reset { stream, .. } => drop(self.streams.remove(&stream)),
            Event::Pong(_) => self.pongs += 1,
            _ => {}
        }
        Some(())
    }

    fn set(&mut self, settings: &[(u16, u32)]) {
        let wanted = settings.iter().find(|(id, _)| *id == setting::INITIAL_WINDOW_SIZE);
        if let Some((_, size)) = wanted {
            let more = i64::from(*size) - self.initial;
            self.initial += more;
            self.streams.values_mut().for_each(|window| *window += more);
        }
    }

    fn take(&mut self, stream: u32, data: &[u8], end: bool) {
        self.bodies.entry(stream).or_default().extend_from_slice(data);
        if end {
            let body = self.bodies.remove(&stream).unwrap();
            let request = SimpleRequest::decode(&body[PREFIX..]).unwrap();
            self.asked.push_back(Asked { stream, request });
        }
    }
}

impl Deref for Server {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.peer
    }
}
