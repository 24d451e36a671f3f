//! What is registered stays registered, whatever happens to it short of an outage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard::{
    Channel, Incarnation, Instance, RegistrationSettings, RegistrationState, Registry, Resolver, Serve, ServiceName,
    Serving, WatchSettings, register, watch,
};
use callboard_echo::EchoServer;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::load::{Load, until};

const MEMBERS: usize = 5;
/// Longer than anything here takes, on a busy machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What may come on top of a time to live.
const BEYOND: Duration = Duration::from_secs(5);

/// Who runs a registry that asks for rights.
#[async_trait]
pub trait Operator: Sync {
    /// A registry as another process has it, of who may write.
    fn registry(&self) -> Arc<dyn Registry>;

    /// A resolver as another process has it, of who may read for now.
    fn resolver(&self) -> Arc<dyn Resolver>;

    /// A resolver whose right is never taken away.
    fn observer(&self) -> Arc<dyn Resolver>;

    /// Takes away the right to read from all resolvers.
    async fn forbid_reading(&self);

    /// Gives it back.
    async fn permit_reading(&self);
}

/// Five servers under the load of 64 callers, while for some time, one after the other and in any order, a change is
/// refused, a runtime ends whose client others use, a server with a clock that is ahead claims an id and dies, the right to
/// read is taken away, and a server moves. Nobody is off the board for longer than a time to live and 5 s, no id has two
/// owners, and no call fails.
///
/// `longest` is the time to live, and what the registry adds to it.
pub async fn hardship(operator: &dyn Operator, longest: Duration, time: Duration) {
    let mut stage = Stage::begin(operator).await;
    let load = Load::start(&stage.channel);
    load.goes_on().await;
    let (end, mut counts) = (Instant::now() + time, BTreeMap::<_, usize>::new());
    while Instant::now() < end {
        let what = stage.suffer(counts.values().sum()).await;
        *counts.entry(what).or_default() += 1;
        load.goes_on().await;
        stage.each_has_one_owner().await;
    }
    let absent = stage.presence.longest();
    let total = load.finish().await;
    println!("{counts:?} in {time:?}: {total}; longest off the board: {absent:?}");
    assert_eq!(total.failures(), 0, "{total:?}");
    for (id, off) in absent {
        assert!(off <= longest + BEYOND, "{id} was off the board for {off:?}");
    }
    stage.end().await;
}

struct Stage<'h> {
    operator: &'h dyn Operator,
    service: ServiceName,
    members: Vec<Member>,
    channel: Channel,
    presence: Presence,
}

impl<'h> Stage<'h> {
    async fn begin(operator: &'h dyn Operator) -> Self {
        let service: ServiceName = "project/test".parse().unwrap();
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            members.push(Member::start(operator.registry(), &service, number, Incarnation::fresh()).await);
        }
        for member in &members {
            member.until_on_board(true).await;
        }
        let channel = Channel::builder(service.clone()).resolver(operator.resolver()).build().unwrap();
        until("all are seen", || channel.endpoints().len() == MEMBERS).await;
        let presence = Presence::watch(operator.observer(), &service);
        Self { operator, service, members, channel, presence }
    }

    async fn suffer(&mut self, number: usize) -> &'static str {
        let member = fastrand::usize(..MEMBERS);
        match number % 5 {
            0 => self.a_change_is_refused(member).await,
            1 => self.a_runtime_ends(member).await,
            2 => self.a_clock_is_ahead(member).await,
            3 => self.a_right_is_taken_away().await,
            _ => self.a_server_moves(member).await,
        }
    }

    async fn a_change_is_refused(&self, number: usize) -> &'static str {
        let serving = &self.members[number].serving;
        // No registry takes so much.
        serving.update(|instance| drop(instance.metadata_mut().insert("note".to_owned(), "x".repeat(4 << 20))));
        let pending = |expected: bool| move |state: &RegistrationState| matches!(state, RegistrationState::Registered { pending, .. } if pending.is_some() == expected);
        self.members[number].until("the change is pending", pending(true)).await;
        sleep(Duration::from_secs(2)).await; // it is tried again and again meanwhile
        serving.update(|instance| instance.metadata_mut().clear());
        self.members[number].until("the next change is published", pending(false)).await;
        "a change refused"
    }

    /// A server is replaced by one whose registry was made, and used first, in a runtime that then ends.
    async fn a_runtime_ends(&mut self, number: usize) -> &'static str {
        let (registry, service) = (self.operator.registry(), self.service.clone());
        let (used, is_used) = oneshot::channel();
        let (end, told) = oneshot::channel::<()>();
        let shared = Arc::clone(&registry);
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let other: ServiceName = format!("{service}-elsewhere").parse().unwrap();
                let instance = Instance::new("b", "127.0.0.1:1".parse().unwrap()).unwrap();
                let registered = register(shared, &other, instance, RegistrationSettings::default());
                registered.wait_registered(PATIENCE).await.unwrap();
                used.send(()).unwrap();
                let _ = told.await;
            });
        });
        is_used.await.unwrap();
        self.replace(number, registry, Incarnation::fresh()).await;
        end.send(()).unwrap();
        tokio::task::spawn_blocking(|| elsewhere.join()).await.unwrap().unwrap();
        "a runtime ended"
    }

    /// Somebody with a clock that is ahead has the same id and address, and dies.
    async fn a_clock_is_ahead(&self, number: usize) -> &'static str {
        let hour = 3_600_000_000;
        let ahead = Incarnation::from_micros(Incarnation::fresh().as_micros() + hour);
        let instance = self.members[number].instance().with_incarnation(ahead);
        let registry = self.operator.registry();
        let claim = registry.register(&self.service, &instance).await.unwrap();
        self.members[number].until_on_board(false).await;
        drop((claim, registry));
        self.members[number].until_on_board(true).await;
        "a clock ahead"
    }

    async fn a_right_is_taken_away(&self) -> &'static str {
        self.operator.forbid_reading().await;
        until("the channel knows that it may not read", || self.channel.stale().is_some()).await;
        self.operator.permit_reading().await;
        until("the channel reads again", || self.channel.stale().is_none()).await;
        "a right taken away"
    }

    async fn a_server_moves(&mut self, number: usize) -> &'static str {
        self.replace(number, self.operator.registry(), Incarnation::fresh()).await;
        "a server moved"
    }

    /// The next one begins under the same id, elsewhere, before the former one ends.
    async fn replace(&mut self, number: usize, registry: Arc<dyn Registry>, incarnation: Incarnation) {
        let next = Member::start(registry, &self.service, number, incarnation).await;
        next.until_on_board(true).await;
        let former = std::mem::replace(&mut self.members[number], next);
        former.until_on_board(false).await; // it learns that the id is the next one's
        let address = self.members[number].instance().address().clone();
        let seen = || self.channel.endpoints().iter().any(|status| status.endpoint.instance().address() == &address);
        until("the channel has heard of the move", seen).await;
        former.end().await;
    }

    async fn each_has_one_owner(&self) {
        for member in &self.members {
            member.until_on_board(true).await;
        }
    }

    async fn end(self) {
        for member in self.members {
            member.end().await;
        }
    }
}

/// A server of one id.
struct Member {
    serving: Arc<Serving>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<callboard::Result<()>>,
}

impl Member {
    async fn start(
        registry: Arc<dyn Registry>,
        service: &ServiceName,
        number: usize,
        incarnation: Incarnation,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = Serve::new(registry, service.clone())
            .id(format!("s{number}"))
            .instance(move |instance| instance.with_incarnation(incarnation))
            .deregister_delay(Duration::from_secs(1))
            .signals(false)
            .shutdown_signal(async { drop(stopped.await) });
        let serving = serve.start(listener, |listener, shutdown| async {
            let server = EchoServer::start_on(String::new(), listener, |tonic| tonic)?;
            shutdown.await;
            server.stop().await;
            std::io::Result::Ok(())
        });
        let serving = Arc::new(serving.unwrap());
        let ended = tokio::spawn({
            let serving = Arc::clone(&serving);
            async move { serving.ended().await }
        });
        Self { serving, stop, ended }
    }

    /// It is bound to one address, so that this is known from the beginning.
    fn instance(&self) -> Instance {
        self.serving.instance().unwrap().clone()
    }

    async fn until(&self, what: &str, expected: impl Fn(&RegistrationState) -> bool) {
        let mut state = self.serving.watch_state();
        let waited = timeout(PATIENCE, state.wait_for(expected)).await.map(|state| state.map(drop));
        assert!(matches!(waited, Ok(Ok(()))), "not within {PATIENCE:?}: {what}; {:?}", self.serving.state());
    }

    async fn until_on_board(&self, expected: bool) {
        let is_so = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. }) == expected;
        self.until(if expected { "on the board" } else { "off the board" }, is_so).await;
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }
}

/// For how long each id was off the board at most, as somebody sees it whose rights are never taken away.
struct Presence {
    off: watch::Receiver<BTreeMap<String, Duration>>,
    watching: JoinHandle<()>,
}

impl Presence {
    fn watch(resolver: Arc<dyn Resolver>, service: &ServiceName) -> Self {
        let mut settings = WatchSettings::default();
        (settings.empty_grace, settings.coalesce) = (Duration::ZERO, Duration::ZERO);
        let mut watcher = watch(resolver, service, settings);
        let (longest, off) = watch::channel(BTreeMap::new());
        let watching = tokio::spawn(async move {
            let mut since: BTreeMap<String, Option<Instant>> = BTreeMap::new();
            loop {
                let view = watcher.changed().await.clone();
                let there: Vec<_> =
                    view.instances.iter().flat_map(|set| set.iter()).map(|i| i.id().to_owned()).collect();
                for id in &there {
                    if let Some(gone) = since.insert(id.clone(), None).flatten() {
                        longest.send_modify(|longest| {
                            let known = longest.entry(id.clone()).or_insert(Duration::ZERO);
                            *known = gone.elapsed().max(*known);
                        });
                    }
                }
                for (_, gone) in since.iter_mut().filter(|(id, _)| !there.contains(id)) {
                    gone.get_or_insert_with(Instant::now);
                }
            }
        });
        Self { off, watching }
    }

    fn longest(&self) -> BTreeMap<String, Duration> {
        self.off.borrow().clone()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
