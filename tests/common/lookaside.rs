//! External balancers that a test controls, and servers that record the tokens of calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use callboard::lookaside::v1::{ClientStats, LoadBalanceResponse, Server};
use callboard::lookaside::{Asked, Decides, FallbackReason, LoadBalancerServer};
use callboard::{
    Address, Channel, Incarnation, Instance, InstanceKind, Registration, RegistrationSettings, ServedBy, register,
};
use callboard_echo::pb::EchoResponse;
use callboard_raw::{Mode, Proxy};
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};

use super::scripted::Scripted;
use super::{PATIENCE, Stage, echo, request, until};

/// A balancer that sends a test's messages to each client, now and later. It is behind a proxy, which can cut it off.
pub struct Balancer {
    proxy: Proxy,
    book: Arc<Book>,
    task: AbortHandle,
}

#[derive(Default)]
struct Book {
    /// The first messages to a new client.
    greeting: Mutex<Vec<LoadBalanceResponse>>,
    clients: Mutex<Vec<mpsc::UnboundedSender<LoadBalanceResponse>>>,
    names: Mutex<Vec<String>>,
    reports: Mutex<Vec<ClientStats>>,
    open: AtomicUsize,
}

impl Balancer {
    /// Starts a balancer that sends no list yet, and asks for reports at this interval.
    pub async fn start(report_every: Duration) -> Self {
        Self::start_with(report_every, tonic::transport::Server::builder()).await
    }

    pub async fn start_with(report_every: Duration, server: tonic::transport::Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap()).await;
        let book = Arc::<Book>::default();
        let answer = {
            let book = Arc::clone(&book);
            move |asked| Ok(Arc::clone(&book).answer(asked))
        };
        let service = LoadBalancerServer::new(report_every, answer);
        let serving = server.serve_with_incoming(service, TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        Self { proxy, book, task }
    }

    /// Starts a balancer that sends this list, and wants no reports.
    pub async fn listing(servers: impl IntoIterator<Item = Server>) -> Self {
        let balancer = Self::start(Duration::ZERO).await;
        balancer.list(servers);
        balancer
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Sends this list to all clients, now and later.
    pub fn list(&self, servers: impl IntoIterator<Item = Server>) {
        self.say(&LoadBalanceResponse::servers(servers));
    }

    /// Sends this message to all clients, now and later.
    pub fn say(&self, response: &LoadBalanceResponse) {
        *self.book.greeting.lock().unwrap() = vec![response.clone()];
        self.book.clients.lock().unwrap().retain(|client| client.send(response.clone()).is_ok());
    }

    /// Ends all streams, in good order.
    pub fn hang_up(&self) {
        self.book.clients.lock().unwrap().clear();
    }

    /// Closes all connections and refuses new ones, as if its process had died.
    pub async fn kill(&self) {
        self.proxy.set(Mode::Refuse).await;
    }

    /// Accepts connections again.
    pub async fn revive(&self) {
        self.proxy.set(Mode::Pass).await;
    }

    /// From here on no bytes reach it or leave it.
    pub async fn vanish(&self) {
        self.proxy.set(Mode::BlackHole).await;
    }

    /// The number of open streams.
    pub fn open(&self) -> usize {
        self.book.open.load(Ordering::SeqCst)
    }

    /// The service names that clients sent, one for each stream that ever began.
    pub fn names(&self) -> Vec<String> {
        self.book.names.lock().unwrap().clone()
    }

    pub fn reports(&self) -> Vec<ClientStats> {
        self.book.reports.lock().unwrap().clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Book {
    fn answer(self: Arc<Self>, asked: Asked) -> callboard::lookaside::Answers {
        self.names.lock().unwrap().push(asked.name().to_owned());
        self.open.fetch_add(1, Ordering::SeqCst);
        let (client, said) = mpsc::unbounded_channel();
        let greeting = self.greeting.lock().unwrap();
        greeting.iter().for_each(|response| client.send(response.clone()).unwrap());
        self.clients.lock().unwrap().push(client);
        drop(greeting);
        let (book, mut reports) = (Arc::clone(&self), asked.into_reports());
        tokio::spawn(async move {
            while let Some(stats) = reports.next().await {
                book.reports.lock().unwrap().push(stats);
            }
        });
        Said { answers: UnboundedReceiverStream::new(said), book: self }.boxed()
    }
}

/// The messages of one stream, which counts as open until this is dropped.
struct Said {
    answers: UnboundedReceiverStream<LoadBalanceResponse>,
    book: Arc<Book>,
}

impl Stream for Said {
    type Item = LoadBalanceResponse;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answers.poll_next_unpin(cx)
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.book.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server that records the `lb-token` of each call. Its answers carry its id.
pub struct Noting {
    pub server: Scripted,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
}

impl Noting {
    pub async fn start(id: &'static str) -> Self {
        let tokens = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&tokens);
        let server = Scripted::start(move |request| {
            let all: Vec<_> = request.metadata().get_all("lb-token").iter().collect();
            assert!(all.len() <= 1, "{all:?}");
            seen.lock().unwrap().push(all.first().map(|token| token.to_str().unwrap().to_owned()));
            Ok(tonic::Response::new(EchoResponse { server: id.to_owned(), ..EchoResponse::default() }))
        });
        Self { server: server.await, tokens }
    }

    pub fn entry(&self, token: &str) -> Server {
        Server::at(self.server.address, token)
    }

    /// The number of calls with this token, or with none.
    pub fn calls(&self, token: Option<&str>) -> usize {
        self.tokens.lock().unwrap().iter().filter(|seen| seen.as_deref() == token).count()
    }

    pub fn all_calls(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }
}

impl Stage {
    /// Registers a balancer.
    pub async fn balancer(&self, id: &str, address: impl TryInto<Address, Error: std::fmt::Debug>) -> Registration {
        let instance = Instance::new(id, address.try_into().unwrap()).unwrap().with_kind(InstanceKind::Balancer);
        let instance = instance.with_incarnation(Incarnation::fresh());
        let registration =
            register(Arc::new(self.board.clone()), &self.service, instance, RegistrationSettings::default());
        registration.wait_registered(PATIENCE).await.unwrap();
        registration
    }
}

/// What decides, if there are balancers.
pub fn decides(channel: &Channel) -> Option<Decides> {
    channel.lookaside().map(|lookaside| lookaside.decides)
}

/// Waits until a list of this many servers decides, and all of them are ready.
pub async fn until_listed(channel: &Channel, count: usize) {
    until(
        "a list of so many servers decides",
        || matches!(decides(channel), Some(Decides::Balancer { servers, .. }) if servers == count),
    )
    .await;
    super::until_ready(channel, count).await;
}

pub async fn until_fallback(channel: &Channel, reason: FallbackReason) {
    until("there is fallback", || decides(channel) == Some(Decides::Fallback(reason))).await;
}

/// Makes a call, and returns the address that answered or the status.
pub async fn served_by(channel: &Channel) -> Result<Address, tonic::Status> {
    let response = echo(channel).unary(request()).await?;
    let ServedBy(endpoint) = response.extensions().get().expect("the response names its endpoint");
    Ok(endpoint.instance().address().clone())
}
