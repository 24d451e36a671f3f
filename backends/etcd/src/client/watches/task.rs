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

use super::command::{Begin, Command};
use crate::client::connection::{ATTEMPT, Connection};
use crate::error::{from_client, is_passing, wants_stream};

/// How large an answer may be: enough for a thousand instances of 64 KiB.
pub(crate) const LARGEST_ANSWER: usize = 64 << 20;

const OTHER_IDS: &str = "cannot watch: etcd gives watches other ids than it is asked for; it has to be of version 3.4 \
                         or newer, and must not be reached through its grpc-proxy";

/// It makes one attempt. When the stream breaks, all watches end with the error, and may be opened anew.
pub(super) struct Task {
    connection: Arc<Connection>,
    commands: UnboundedReceiver<Command>,
    /// All watches, by id.
    watches: HashMap<i64, Begin>,
    /// Requests that are yet to be sent.
    unsent: VecDeque<Request>,
    /// The watches that were asked for and are not answered yet. etcd answers in the order of the requests, and does
    /// not say which watch it refuses.
    unanswered: VecDeque<i64>,
    /// When the last answer came, or since when one is awaited.
    last_answer: Instant,
    stream: Stream,
}

enum Request {
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
    Command(Option<Command>),
    Opened(Result<WatchStream>),
    Answered(Result<PbWatchResponse>),
    /// The stream takes another request.
    Room,
    Silent,
}

impl Task {
    pub(super) fn new(connection: Arc<Connection>, commands: UnboundedReceiver<Command>) -> Self {
        let (watches, unsent, unanswered) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        let (last_answer, stream) = (Instant::now(), Stream::Closed);
        Self { connection, commands, watches, unsent, unanswered, last_answer, stream }
    }

    /// Runs until there is no watch left.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Command(Some(command)) => self.obey(command),
                Event::Command(None) => return,
                Event::Opened(Ok(stream)) => {
                    let (sender, answers) = stream.split();
                    self.stream = Stream::Open(sender, Box::new(answers));
                }
                Event::Answered(Ok(answer)) => self.answered(answer),
                Event::Opened(Err(error)) | Event::Answered(Err(error)) => self.broken(&error),
                Event::Room => {}
                Event::Silent => {
                    // The connection may carry nothing any more.
                    self.connection.renew();
                    self.broken(&Error::new(ErrorKind::Timeout, "cannot watch: etcd has not answered in time"));
                }
            }
            self.send().await;
        }
    }

    async fn event(&mut self) -> Event {
        // A single answer may be late because there are many before it.
        let silent_from = (!self.unanswered.is_empty()).then(|| self.last_answer + ATTEMPT);
        let stream = async {
            match &mut self.stream {
                Stream::Closed => pending().await,
                Stream::Opening(opening) => Event::Opened(opening.await),
                Stream::Open(sender, answers) => tokio::select! {
                    answer = answer(answers) => Event::Answered(answer),
                    // If it is closed, so are the answers.
                    Ok(_) = sender.0.reserve(), if !self.unsent.is_empty() => Event::Room,
                },
            }
        };
        tokio::select! {
            command = self.commands.recv() => Event::Command(command),
            event = stream => event,
            () = sleep_until(silent_from.unwrap_or_else(Instant::now)), if silent_from.is_some() => Event::Silent,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Begin(id, begin) => {
                self.watches.insert(id, begin);
                self.unsent.push_back(Request::Begin(id));
            }
            Command::End(id) => self.end(id),
        }
    }

    /// Ends a watch that is not read any more.
    fn end(&mut self, id: i64) {
        if self.watches.remove(&id).is_some() {
            self.unsent.push_back(Request::End(id));
        }
    }

    /// Sends as many requests as there is room for. It never waits for room: a stream on which both sides wait to send
    /// would stand still for ever.
    async fn send(&mut self) {
        loop {
            match &mut self.stream {
                Stream::Opening(_) => return,
                Stream::Open(sender, _) if sender.0.capacity() == 0 => return,
                Stream::Open(..) | Stream::Closed => {}
            }
            let Some(request) = self.unsent.pop_front() else { return };
            let sent = match (request, &mut self.stream) {
                (Request::Begin(id), Stream::Open(sender, _)) => {
                    let Some(Begin { key, options, .. }) = self.watches.get(&id) else { continue };
                    if self.unanswered.is_empty() {
                        self.last_answer = Instant::now();
                    }
                    self.unanswered.push_back(id);
                    sender.watch(key.as_str(), Some(options.clone())).await
                }
                (Request::End(id), Stream::Open(sender, _)) => sender.cancel(id).await,
                (Request::Begin(id), _) => {
                    self.open(id);
                    Ok(())
                }
                // A watch that is not open needs no end.
                (Request::End(_), _) => Ok(()),
            };
            if let Err(error) = sent {
                return self.broken(&from_client("watch", error, false));
            }
        }
    }

    /// Begins to open the stream, with this watch.
    fn open(&mut self, id: i64) {
        let Some(Begin { key, options, .. }) = self.watches.get(&id) else { return };
        let (connection, key, options) = (Arc::clone(&self.connection), key.clone(), options.clone());
        (self.last_answer, self.unanswered) = (Instant::now(), [id].into());
        self.stream = Stream::Opening(Box::pin(async move {
            let open = |client: &Client| {
                let mut watch = client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
                let (key, options) = (key.clone(), options.clone());
                async move { watch.watch(key, Some(options)).await }
            };
            connection.attempt_within(ATTEMPT, "watch", open).await
        }));
    }

    fn answered(&mut self, answer: PbWatchResponse) {
        self.last_answer = Instant::now();
        let asked = if answer.created { self.unanswered.pop_front() } else { None };
        let id = asked.unwrap_or(answer.watch_id);
        let over = answer.canceled || answer.compact_revision > 0;
        if over && wants_stream(&answer.cancel_reason) {
            let why = format!("cannot watch: etcd does not take the stream's token any more: {}", answer.cancel_reason);
            return self.broken(&Error::new(ErrorKind::Unavailable, why));
        }
        // The events of other watches would be taken for those of the watch that has the same id here.
        if asked.is_some_and(|id| id != answer.watch_id) && !over {
            return self.broken(&Error::new(ErrorKind::Unsupported, OTHER_IDS));
        }
        let Some(watch) = self.watches.get(&id) else { return };
        let passed_on = watch.answers.try_send(Ok(Box::new(answer)));
        if over {
            self.watches.remove(&id);
        } else if passed_on.is_err() {
            self.end(id);
        }
    }

    /// The stream is gone, and with it all watches.
    fn broken(&mut self, error: &Error) {
        let watches = self.watches.len();
        tracing::debug!(backend = "etcd", error = error.chain(), watches, "the stream that carries all watches broke");
        if is_passing(error) {
            self.connection.suspect();
        }
        self.stream = Stream::Closed;
        self.unsent.clear();
        self.unanswered.clear();
        for (_, watch) in self.watches.drain() {
            // If there is no room for the error, its reader sees the end of the answers.
            let _ = watch.answers.try_send(Err(error.clone()));
        }
    }
}

async fn answer(answers: &mut WatchResponseStream) -> Result<PbWatchResponse> {
    let answer = answers.message().await.map_err(|error| from_client("watch", error, false))?;
    answer
        .map(|answer| answer.0)
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "cannot watch: etcd has ended the stream"))
}
