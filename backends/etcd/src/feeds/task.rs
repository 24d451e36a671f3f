//! The task that carries all watches over one stream.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::proto::PbWatchResponse;
use etcd_client::{Client, WatchRequestSender, WatchResponseStream, WatchStream};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use super::{Order, Wanted};
use crate::connection::{ATTEMPT, Connection};
use crate::failure::{failure, is_passing, wants_stream};
use crate::feed::LARGEST_ANSWER;

const OTHER_NUMBERS: &str = "cannot watch: etcd gives watches other numbers than it is asked for; it has to be of version \
                             3.4 or newer, and asked without its grpc-proxy";

/// It makes one attempt: when the stream breaks, all who watch are told, and may ask anew.
pub(super) struct Task {
    connection: Arc<Connection>,
    orders: UnboundedReceiver<Order>,
    /// All watches, by their numbers.
    watches: HashMap<i64, Wanted>,
    /// What etcd is to be told.
    to_tell: VecDeque<Tell>,
    /// The watches that it was asked for, and has not answered. It answers in the order in which it was asked; if it
    /// refuses one, it does not say which.
    asked: VecDeque<i64>,
    /// Since when it has been silent, if there is something to be answered.
    heard: Instant,
    stream: Stream,
}

enum Tell {
    Begin(i64),
    End(i64),
}

enum Stream {
    Closed,
    Opening(BoxFuture<'static, Result<WatchStream>>),
    Open(WatchRequestSender, Box<WatchResponseStream>),
}

/// What happens to the task.
enum Event {
    Ordered(Option<Order>),
    Opened(Result<WatchStream>),
    Said(Result<PbWatchResponse>),
    /// There is room for something that etcd is to be told.
    Room,
    Silent,
}

impl Task {
    pub(super) fn new(connection: Arc<Connection>, orders: UnboundedReceiver<Order>) -> Self {
        let (watches, to_tell, asked) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { connection, orders, watches, to_tell, asked, heard: Instant::now(), stream: Stream::Closed }
    }

    /// Goes on until nobody watches any more.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Ordered(Some(order)) => self.ordered(order),
                Event::Ordered(None) => return,
                Event::Opened(Ok(stream)) => {
                    let (sender, answers) = stream.split();
                    self.stream = Stream::Open(sender, Box::new(answers));
                }
                Event::Said(Ok(said)) => self.said(said),
                Event::Opened(Err(error)) | Event::Said(Err(error)) => self.broken(&error),
                Event::Room => {}
                Event::Silent => {
                    // The connection is not sure to carry anything any more.
                    self.connection.here().renew();
                    self.broken(&Error::new(ErrorKind::Timeout, "cannot watch: etcd has not answered in time"));
                }
            }
            self.tell().await;
        }
    }

    async fn event(&mut self) -> Event {
        // One answer may be late because there are many before it.
        let silent_from = (!self.asked.is_empty()).then(|| self.heard + ATTEMPT);
        let stream = async {
            match &mut self.stream {
                Stream::Closed => pending().await,
                Stream::Opening(opening) => Event::Opened(opening.await),
                Stream::Open(sender, answers) => tokio::select! {
                    said = answer(answers) => Event::Said(said),
                    // If it is closed, so are the answers.
                    Ok(_) = sender.0.reserve(), if !self.to_tell.is_empty() => Event::Room,
                },
            }
        };
        tokio::select! {
            order = self.orders.recv() => Event::Ordered(order),
            event = stream => event,
            () = sleep_until(silent_from.unwrap_or_else(Instant::now)), if silent_from.is_some() => Event::Silent,
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Begin(number, wanted) => {
                self.watches.insert(number, wanted);
                self.to_tell.push_back(Tell::Begin(number));
            }
            Order::End(number) => self.end(number),
        }
    }

    /// Ends a watch that nobody reads any more.
    fn end(&mut self, number: i64) {
        if self.watches.remove(&number).is_some() {
            self.to_tell.push_back(Tell::End(number));
        }
    }

    /// Tells etcd as much as there is room for. It never waits: a stream on which both sides wait to tell would stand
    /// still for ever.
    async fn tell(&mut self) {
        loop {
            match &mut self.stream {
                Stream::Opening(_) => return,
                Stream::Open(sender, _) if sender.0.capacity() == 0 => return,
                Stream::Open(..) | Stream::Closed => {}
            }
            let Some(tell) = self.to_tell.pop_front() else { return };
            let told = match (tell, &mut self.stream) {
                (Tell::Begin(number), Stream::Open(sender, _)) => {
                    let Some(Wanted { key, options, .. }) = self.watches.get(&number) else { continue };
                    if self.asked.is_empty() {
                        self.heard = Instant::now();
                    }
                    self.asked.push_back(number);
                    sender.watch(key.as_str(), Some(options.clone())).await
                }
                (Tell::End(number), Stream::Open(sender, _)) => sender.cancel(number).await,
                (Tell::Begin(number), _) => {
                    self.open(number);
                    Ok(())
                }
                // What is not open needs no end.
                (Tell::End(_), _) => Ok(()),
            };
            if let Err(error) = told {
                return self.broken(&failure("watch", error, false));
            }
        }
    }

    /// Begins to open the stream, with this watch.
    fn open(&mut self, number: i64) {
        let Some(Wanted { key, options, .. }) = self.watches.get(&number) else { return };
        let (connection, key, options) = (Arc::clone(&self.connection), key.clone(), options.clone());
        (self.heard, self.asked) = (Instant::now(), [number].into());
        self.stream = Stream::Opening(Box::pin(async move {
            let open = |client: &Client| {
                let mut watch = client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
                let (key, options) = (key.clone(), options.clone());
                async move { watch.watch(key, Some(options)).await }
            };
            connection.attempt_within(ATTEMPT, "watch", open).await
        }));
    }

    fn said(&mut self, said: PbWatchResponse) {
        self.heard = Instant::now();
        let answered = if said.created { self.asked.pop_front() } else { None };
        let number = answered.unwrap_or(said.watch_id);
        let over = said.canceled || said.compact_revision > 0;
        if over && wants_stream(&said.cancel_reason) {
            let why = format!("cannot watch: etcd does not take the stream's token any more: {}", said.cancel_reason);
            return self.broken(&Error::new(ErrorKind::Unavailable, why));
        }
        // What it says of the others would come to whoever has the same number.
        if answered.is_some_and(|number| number != said.watch_id) && !over {
            return self.broken(&Error::new(ErrorKind::Unsupported, OTHER_NUMBERS));
        }
        let Some(wanted) = self.watches.get(&number) else { return };
        let told = wanted.said.try_send(Ok(Box::new(said)));
        if over {
            self.watches.remove(&number);
        } else if told.is_err() {
            self.end(number);
        }
    }

    /// The stream is gone, and with it all watches.
    fn broken(&mut self, error: &Error) {
        tracing::debug!(
            backend = "etcd",
            error = error.chain(),
            watches = self.watches.len(),
            "nothing is watched for now"
        );
        if is_passing(error) {
            self.connection.here().doubt();
        }
        self.stream = Stream::Closed;
        self.to_tell.clear();
        self.asked.clear();
        for (_, wanted) in self.watches.drain() {
            // Who does not read will see the end.
            let _ = wanted.said.try_send(Err(error.clone()));
        }
    }
}

async fn answer(answers: &mut WatchResponseStream) -> Result<PbWatchResponse> {
    let said = answers.message().await.map_err(|error| failure("watch", error, false))?;
    said.map(|said| said.0).ok_or_else(|| Error::new(ErrorKind::Unavailable, "cannot watch: etcd has ended the stream"))
}
