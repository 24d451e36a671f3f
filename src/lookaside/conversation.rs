//! Streams to balancers, one at a time, while there are any.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use callboard_core::{Address, BackoffState, ConnectivityState, Error, ErrorKind, Result, later};
use futures_core::Stream;
use http::uri::PathAndQuery;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Streaming;
use tonic::client::Grpc;

use super::BALANCE_LOAD;
use super::answer::{Answer, Said, Unread};
use super::client::{BalancerChannel, Way, order};
use super::counts::CallCounts;
use super::list::List;
use super::list_or_registry::News;
use super::subset::Subset;
use super::v1::{InitialLoadBalanceRequest, LoadBalanceRequest, Request};
use crate::control::EndpointStatus;

/// If two streams in a row end sooner than this, the second counts as failed, so that a balancer that answers and hangs
/// up is retried after a backoff.
const SETTLED: Duration = Duration::from_secs(1);

/// How long an attempt to connect to a balancer goes on although the set of balancers has changed. Records that change
/// all the time must not keep every attempt from succeeding, nor cause dials without end.
pub(super) const STEADY: Duration = Duration::from_secs(1);

/// A list that comes sooner than this after the one before waits. If another one comes in the meantime, the waiting one
/// is dropped.
const COALESCE: Duration = Duration::from_millis(20);

/// The shortest and the longest interval of reports, whatever a balancer asks for.
const MOST_OFTEN: Duration = Duration::from_millis(100);
const LEAST_OFTEN: Duration = Duration::from_secs(86_400);

/// The balancers that the registry lists.
pub(super) type Balancers = watch::Receiver<Arc<[Address]>>;

/// A channel's side of its streams to balancers.
pub(super) struct Talker {
    way: Way,
    balancers: Balancers,
    counts: Arc<CallCounts>,
    subset: Subset,
    news: mpsc::Sender<News>,
}

/// How a stream to a balancer ended.
struct End {
    with: Option<Address>,
    /// How long it lasted. None if it never began.
    lasted: Option<Duration>,
    why: Error,
}

/// A stream to a balancer that has answered.
struct Begun {
    balancer: Address,
    report_every: Option<Duration>,
    answers: Streaming<Answer>,
    requests: mpsc::Sender<LoadBalanceRequest>,
    /// Closed when this is dropped.
    _channel: BalancerChannel,
}

impl Talker {
    pub(super) fn new(way: Way, balancers: Balancers, news: mpsc::Sender<News>) -> Self {
        let subset = Subset::to(way.terms.most);
        Self { way, balancers, counts: Arc::default(), subset, news }
    }

    /// Opens one stream after the other, from this time on. Dropping this future ends the current one.
    pub(super) async fn run(mut self, from: Instant) -> Infallible {
        sleep_until(from).await;
        let mut retry = BackoffState::new(self.way.backoff.clone());
        let (mut asked_last, mut hasty) = (None, false);
        loop {
            let End { with, lasted, why } = self.converse(asked_last.as_ref()).await;
            match why.kind() {
                ErrorKind::Closed => tracing::info!(why = why.chain(), "the stream to a balancer has ended"),
                _ => tracing::warn!(error = why.chain(), "the stream to a balancer has ended"),
            }
            asked_last = with.or(asked_last);
            self.tell(News::Lost(why)).await;
            let short = lasted.is_none_or(|lasted| lasted < SETTLED);
            if lasted.is_none() || short && hasty {
                sleep(retry.failed()).await;
            } else if !short {
                retry.succeeded();
            }
            hasty = short;
        }
    }

    async fn tell(&self, news: News) {
        // The other end is dropped together with this future.
        let _ = self.news.send(news).await;
    }

    async fn converse(&mut self, asked_last: Option<&Address>) -> End {
        let channel = self.connect(asked_last).await;
        let Some(with) = ready(&channel) else {
            let why = Error::new(ErrorKind::Unavailable, "the connection to a balancer was lost at once");
            return End { with: None, lasted: None, why };
        };
        let patience = self.way.terms.patience;
        let late = || lost(&with, &format!("it has not answered within {patience:?}"));
        let answer =
            timeout(patience, shake_hands(channel, with.clone(), self.way.service.as_str(), &self.counts, self.subset));
        let begun = match answer.await.unwrap_or_else(|_| Err(late())) {
            Ok(begun) => begun,
            Err(why) => return End { with: Some(with), lasted: None, why },
        };
        let since = Instant::now();
        tracing::info!(balancer = %with, report_every = ?begun.report_every, "a balancer has answered");
        self.counts.ask(begun.report_every.is_some());
        self.tell(News::Begun(with.clone())).await;
        let why = self.go_on(begun).await;
        End { with: Some(with), lasted: Some(since.elapsed()), why }
    }

    /// Waits for a connection to any of the balancers, following changes of the set.
    async fn connect(&mut self, asked_last: Option<&Address>) -> BalancerChannel {
        loop {
            let channel = self.way.open(order(&self.balancers.borrow_and_update(), asked_last));
            let changed = async {
                sleep(STEADY).await;
                // The sender cannot be gone: it is held together with this.
                let _ = self.balancers.changed().await;
            };
            tokio::select! {
                () = until_ready(&channel, &self.news) => return channel,
                () = changed => {}
            }
        }
    }

    /// Reads lists and sends reports until the stream is over. Returns the reason.
    async fn go_on(&mut self, mut begun: Begun) -> Error {
        let (mut list, mut last_list): (Option<Arc<List>>, Option<Instant>) = (None, None);
        let mut report_at = begun.report_every.map(|every| later(Instant::now(), every));
        let mut silent = false;
        loop {
            if !self.balancers.borrow_and_update().contains(&begun.balancer) {
                return Error::new(ErrorKind::Closed, format!("balancer {} is no longer registered", begun.balancer));
            }
            let pass_on_at = last_list.map_or_else(Instant::now, |at: Instant| at + COALESCE);
            tokio::select! {
                answer = begun.answers.message() => match answer {
                    Ok(Some(answer)) => match answer.read(&self.counts, self.subset).await {
                        Ok(said) => self.take(said, &mut list).await,
                        Err(status) => return broken(&begun.balancer, &status),
                    },
                    Ok(None) => return lost(&begun.balancer, "it has ended the stream"),
                    Err(status) => return broken(&begun.balancer, &status),
                },
                () = sleep_until(pass_on_at), if list.is_some() => {
                    if let Some(list) = list.take() {
                        self.tell(News::List(list)).await;
                    }
                    last_list = Some(Instant::now());
                }
                () = until(report_at) => {
                    self.report(&begun.requests, &mut silent);
                    report_at = begun.report_every.map(|every| later(Instant::now(), every));
                }
                _ = self.balancers.changed() => {}
            }
            // A balancer that sends without a pause must not block other tasks.
            tokio::task::consume_budget().await;
        }
    }

    async fn take(&self, said: Said, list: &mut Option<Arc<List>>) {
        match said {
            Said::List(Some(read)) => *list = Some(read),
            Said::List(None) => tracing::warn!("a balancer's list is ignored: all of its entries are invalid"),
            Said::Fallback => {
                *list = None;
                self.tell(News::Fallback).await;
            }
            // A second initial message is ignored, as is a message that this version does not know.
            Said::Initial(_) | Said::Unknown => tracing::debug!("a message of the balancer is ignored"),
        }
    }

    /// Sends a report, unless it and the last one are empty. If the balancer does not read, nothing is sent, and the
    /// figures go into the next report.
    fn report(&self, requests: &mpsc::Sender<LoadBalanceRequest>, silent: &mut bool) {
        let Ok(place) = requests.try_reserve() else { return };
        let mut stats = self.counts.take();
        if std::mem::replace(silent, stats.is_zero()) && stats.is_zero() {
            return;
        }
        stats.timestamp = Some(SystemTime::now().into());
        place.send(Request::ClientStats(stats).into());
    }
}

/// Waits until one of the balancers is connected. Reports if none of them can be.
async fn until_ready(channel: &BalancerChannel, news: &mpsc::Sender<News>) {
    let mut state = channel.watch_state();
    loop {
        let now = *state.borrow_and_update();
        match now {
            ConnectivityState::Ready => return,
            ConnectivityState::TransientFailure => drop(news.send(News::Unreachable(unreachable(channel))).await),
            _ => {}
        }
        // The channel holds the sender.
        let _ = state.changed().await;
    }
}

/// The error if no balancer is connected: the error of one, and their number.
fn unreachable(channel: &BalancerChannel) -> Error {
    let statuses = channel.endpoints();
    let failed = statuses.iter().find_map(|EndpointStatus { endpoint, connection_error, .. }| {
        Some(format!(": {}: {}", endpoint.instance().address(), connection_error.as_ref()?.chain()))
    });
    let why = failed.unwrap_or_default();
    Error::new(ErrorKind::Unavailable, format!("none of {} balancers can be reached{why}", statuses.len()))
}

/// The address of the connected balancer.
fn ready(channel: &BalancerChannel) -> Option<Address> {
    let ready = |status: &EndpointStatus| status.endpoint.state() == ConnectivityState::Ready;
    channel.endpoints().iter().find(|status| ready(status)).map(|status| status.endpoint.instance().address().clone())
}

/// Opens the stream, sends the service's name, and waits for the answer.
async fn shake_hands(
    channel: BalancerChannel,
    balancer: Address,
    service: &str,
    counts: &Arc<CallCounts>,
    subset: Subset,
) -> Result<Begun> {
    let (requests, queue) = mpsc::channel(1);
    let initial = Request::InitialRequest(InitialLoadBalanceRequest { name: service.to_owned() });
    // The queue has room for one message.
    let _ = requests.try_send(initial.into());
    let path = PathAndQuery::from_static(BALANCE_LOAD);
    let mut client = Grpc::new(channel.clone());
    let failed = |status| broken(&balancer, &status);
    let stream = client.streaming(tonic::Request::new(Requests(queue)), path, Unread);
    let mut answers = stream.await.map_err(failed)?.into_inner();
    let first = match answers.message().await.map_err(failed)? {
        Some(answer) => answer.read(counts, subset).await.map_err(failed)?,
        None => Said::Unknown,
    };
    let Said::Initial(asked) = first else {
        return Err(lost(&balancer, "its first message is not an initial response"));
    };
    let report_every = (!asked.is_zero()).then(|| asked.clamp(MOST_OFTEN, LEAST_OFTEN));
    Ok(Begun { balancer, report_every, answers, requests, _channel: channel })
}

fn lost(balancer: &Address, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("balancer {balancer}: {why}"))
}

fn broken(balancer: &Address, status: &tonic::Status) -> Error {
    lost(balancer, &format!("{:?}: {}", status.code(), status.message()))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The messages to a balancer, as the stream that tonic takes.
struct Requests(mpsc::Receiver<LoadBalanceRequest>);

impl Stream for Requests {
    type Item = LoadBalanceRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
