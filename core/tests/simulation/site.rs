//! One process's way to the registry: a backend as the contract has it, that makes one attempt.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Instance, Lease, Registry, Resolver, Result, ServiceName, Snapshots};
use futures_util::stream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::network::{Passage, Since, Weather, after};
use crate::world::{TIME_TO_LIVE, Token, World};

/// How long a backend waits for an answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What all processes share.
pub struct Shared {
    pub world: World,
    pub random: fastrand::Rng,
    last_token: Token,
}

/// A process, as far as the registry knows it.
#[derive(Clone)]
pub struct Site {
    shared: Arc<Mutex<Shared>>,
    weather: Arc<Mutex<Since<Weather>>>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Site")
    }
}

impl Shared {
    pub fn new(seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { world: World::new(), random: fastrand::Rng::with_seed(seed), last_token: 0 }))
    }
}

impl Site {
    pub fn new(shared: &Arc<Mutex<Shared>>, weather: Weather) -> Self {
        Self { shared: Arc::clone(shared), weather: Arc::new(Mutex::new(Since::new(weather))) }
    }

    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub fn weather(&self) -> Since<Weather> {
        *self.weather.lock().unwrap()
    }

    pub fn set_weather(&self, weather: Weather) {
        self.weather.lock().unwrap().set(weather);
    }

    /// Asks the registry one thing, which it does when the question arrives: perhaps after the asker has given up, and
    /// perhaps twice.
    async fn ask<T: Send + 'static>(&self, ask: impl Fn(&mut World) -> Result<T> + Send + Sync + 'static) -> Result<T> {
        let passage = Passage::draw(self.weather().now, &mut self.shared().random)?;
        let (shared, ask) = (Arc::clone(&self.shared), Arc::new(ask));
        let (answer, answered) = tokio::sync::oneshot::channel();
        if let Some(again) = passage.again {
            let (shared, ask) = (Arc::clone(&shared), Arc::clone(&ask));
            tokio::spawn(async move {
                sleep(again).await;
                // Nobody hears this answer.
                let _ = ask(&mut shared.lock().unwrap().world);
            });
        }
        tokio::spawn(async move {
            after(passage.arrives).await;
            // Whoever has asked may have gone.
            let _ = answer.send(ask(&mut shared.lock().unwrap().world));
        });
        let answered = async {
            let said = answered.await;
            after(passage.answer).await;
            said.unwrap()
        };
        timeout(ANSWER, answered).await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer")))
    }
}

#[async_trait]
impl Registry for Site {
    async fn register(&self, _: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let token = {
            let mut shared = self.shared();
            shared.last_token += 1;
            shared.last_token
        };
        let claimed = instance.clone();
        let now = Instant::now();
        self.ask(move |world| world.claim(&claimed, token)).await?;
        Ok(Box::new(Claim {
            site: self.clone(),
            instance: instance.clone(),
            token,
            changes: 0,
            kept: now,
            next: now + BEAT,
        }))
    }
}

/// The pause between two signs of life.
const BEAT: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Claim {
    site: Site,
    instance: Instance,
    token: Token,
    /// How many changes were asked for.
    changes: u64,
    /// When the last sign of life that was answered was sent.
    kept: Instant,
    next: Instant,
}

impl Claim {
    async fn keep(&self, change: Option<Instance>) -> Result<()> {
        let (instance, token, number) = (self.instance.clone(), self.token, self.changes);
        self.site.ask(move |world| world.keep(&instance, token, change.as_ref().map(|change| (number, change)))).await
    }
}

#[async_trait]
impl Lease for Claim {
    async fn lost(&mut self) -> Error {
        loop {
            sleep_until(self.next).await;
            let asked = Instant::now();
            match self.keep(None).await {
                Ok(()) => (self.kept, self.next) = (asked, asked + BEAT),
                Err(error) if matches!(error.kind(), ErrorKind::Lost | ErrorKind::Conflict) => return error,
                Err(_) if self.kept.elapsed() > TIME_TO_LIVE => return Error::new(ErrorKind::Lost, "not kept alive"),
                Err(_) => self.next = Instant::now() + Duration::from_millis(500),
            }
        }
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.changes += 1;
        self.keep(Some(instance.clone())).await
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        let (id, token) = (self.instance.id().to_owned(), self.token);
        let revoke = move |world: &mut World| {
            world.revoke(&id, token);
            Ok(())
        };
        self.site.ask(revoke).await
    }
}

impl Site {
    /// Waits for a change after so many, but no longer than from one sign of life to the next: a registry that is out of
    /// reach does not tell.
    async fn change_after(&self, seen: u64) {
        let (count, waiting) = self.shared().world.changes();
        let next = waiting.notified();
        if count == seen {
            // That nothing has changed is for the next question to find out.
            let _ = timeout(BEAT, next).await;
        }
    }
}

impl Resolver for Site {
    /// Asks for the set, and again after each change.
    fn watch(&self, _: &ServiceName) -> Snapshots {
        let watch = (self.clone(), None);
        Box::pin(stream::unfold(watch, |(site, seen)| async move {
            if let Some(seen) = seen {
                site.change_after(seen).await;
            }
            let said = site.ask(|world| Ok((world.changes().0, world.set()))).await;
            let seen = said.as_ref().map_or(0, |(seen, _)| *seen);
            Some((said.map(|(_, set)| set), (site, Some(seen))))
        }))
    }
}
