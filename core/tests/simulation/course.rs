//! What happens in one seed, and what must hold meanwhile.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_core::{
    Incarnation, Instance, Registration, RegistrationSettings, RegistrationState, Resolution, ServiceName,
    WatchSettings, Watcher, register, watch,
};
use tokio::time::{Instant, sleep};

use crate::network::Weather;
use crate::site::{Shared, Site};
use crate::world::TIME_TO_LIVE;

const LENGTH: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(500);

/// How long an empty set has to last to be believed.
const GRACE: Duration = Duration::from_secs(3);

/// How long after a change of the network everything is as it should be: a time to live and 5 s, and 5 s more for what the
/// network has held back.
const SETTLED: Duration = TIME_TO_LIVE.saturating_add(Duration::from_secs(10));

/// A server: one start of one program.
struct Process {
    id: &'static str,
    /// Which start it is. It shows in the address.
    port: u16,
    incarnation: u64,
    site: Site,
    /// None once it has ended, in whatever way.
    registration: Option<Registration>,
    /// When it began or ended, or began to wish what it wishes now.
    since: Instant,
    weight: u32,
}

impl Process {
    fn lives(&self) -> bool {
        self.registration.is_some()
    }

    fn is_registered(&self) -> bool {
        let state = self.registration.as_ref().map(Registration::state);
        matches!(state, Some(RegistrationState::Registered { pending: None, .. }))
    }

    /// Nothing has happened to it lately.
    fn is_settled(&self) -> bool {
        self.since.elapsed() >= SETTLED && (!self.lives() || is_calm(&self.site))
    }
}

struct Client {
    site: Site,
    view: Arc<Mutex<Resolution>>,
    /// Whether it had anybody when it was looked at last, and some server was registered for long.
    had: Cell<bool>,
}

struct Course {
    shared: Arc<Mutex<Shared>>,
    service: ServiceName,
    processes: Vec<Process>,
    clients: Vec<Client>,
    wiped: Option<Instant>,
}

/// Runs a seed to its end, and returns what has happened.
///
/// # Panics
/// If something does not hold, with what has happened until then.
pub fn run(seed: u64) -> String {
    // The jitter of the waits too.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut course = Course::begin(seed);
        let begun = Instant::now();
        while begun.elapsed() < LENGTH {
            course.act();
            sleep(STEP).await;
            course.shared().world.expire();
            if let Err(broken) = course.check() {
                panic!("{}after {:?}: {broken}", course.shared().world.story, begun.elapsed());
            }
        }
        std::mem::take(&mut course.shared().world.story)
    })
}

fn is_calm(site: &Site) -> bool {
    let weather = site.weather();
    weather.now == Weather::Calm && weather.since.elapsed() >= SETTLED
}

async fn note(mut watcher: Watcher, view: Arc<Mutex<Resolution>>) {
    loop {
        let seen = watcher.changed().await.clone();
        *view.lock().unwrap() = seen;
    }
}

/// Whatever the network is like, a client does not forget everybody while a server is registered.
fn check_kept(client: &Client, lasting: bool) -> Result<(), String> {
    let somebody = client.view.lock().unwrap().instances.as_ref().is_some_and(|instances| !instances.is_empty());
    if client.had.replace(somebody && lasting) && lasting && !somebody {
        return Err("a client has forgotten everybody".to_owned());
    }
    Ok(())
}

impl Course {
    fn begin(seed: u64) -> Self {
        let (shared, service) = (Shared::new(seed), "project/test".parse().unwrap());
        let mut course = Self { shared, service, processes: Vec::new(), clients: Vec::new(), wiped: None };
        for id in ["a", "b", "c"] {
            course.start(id);
        }
        for _ in 0..2 {
            let site = Site::new(&course.shared, Weather::Calm);
            let mut settings = WatchSettings::default();
            (settings.empty_grace, settings.first_snapshot) = (GRACE, Duration::from_secs(4));
            let view = Arc::default();
            let watcher = watch(Arc::new(site.clone()), &course.service, settings);
            tokio::spawn(note(watcher, Arc::clone(&view)));
            course.clients.push(Client { site, view, had: Cell::new(false) });
        }
        course
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    fn tell(&self, what: &str) {
        self.shared().world.tell(what);
    }

    fn start(&mut self, id: &'static str) {
        let port = self.processes.len() as u16 + 1;
        self.tell(&format!("start {id} at {port}"));
        let site = Site::new(&self.shared, Weather::Calm);
        let instance = Instance::new(id, format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
        // A copy of a program that runs may have its incarnation too.
        let last = self.processes.iter().rev().find(|process| process.id == id && process.lives());
        let copied = last.filter(|_| self.shared().random.bool()).map(|process| process.incarnation);
        let incarnation = copied.unwrap_or(1_000_000 * u64::from(port));
        let instance = instance.with_incarnation(Incarnation::from_micros(incarnation));
        let mut settings = RegistrationSettings::default();
        settings.attempt_timeout = Duration::from_secs(5);
        let registration = Some(register(Arc::new(site.clone()), &self.service, instance, settings));
        self.processes.push(Process { id, port, site, incarnation, registration, since: Instant::now(), weight: 1 });
    }

    /// Lets something happen, now and then.
    fn act(&mut self) {
        let (dice, which) = {
            let random = &mut self.shared().random;
            (random.u8(..100), random.usize(..100))
        };
        let living: Vec<_> = (0..self.processes.len()).filter(|at| self.processes[*at].lives()).collect();
        let chosen = living.get(which % living.len().max(1)).copied();
        match (dice, chosen) {
            (0, Some(at)) => self.leave(at),
            (1, Some(at)) => self.die(at),
            // There may be one of this id.
            (2 | 3, _) => self.start(["a", "b", "c"][which % 3]),
            (4 | 5, Some(at)) => self.change(at),
            (6, Some(at)) => {
                let site = self.processes[at].site.clone();
                self.turn(&site);
            }
            (7, _) => {
                let site = self.clients[which % self.clients.len()].site.clone();
                self.turn(&site);
            }
            (8, _) if which < 10 => {
                self.shared().world.wipe();
                self.wiped = Some(Instant::now());
            }
            (9..16, _) => self.clear_up(),
            _ => {}
        }
    }

    fn leave(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.since = Instant::now();
        // How it went shows in what stands there.
        drop(process.registration.take().map(|registration| tokio::spawn(registration.deregister())));
        let port = process.port;
        self.tell(&format!("leave {port}"));
    }

    /// Ends it without a word.
    fn die(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.site.set_weather(Weather::Silent);
        (process.since, process.registration) = (Instant::now(), None);
        let port = process.port;
        self.tell(&format!("die {port}"));
    }

    fn change(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.weight += 1;
        process.since = Instant::now();
        let (weight, port) = (process.weight, process.port);
        process.registration.as_ref().unwrap().update(|instance| instance.set_weight(weight));
        self.tell(&format!("wish {port} weight {weight}"));
    }

    fn turn(&self, site: &Site) {
        let weather = Weather::any_bad(&mut self.shared().random);
        site.set_weather(weather);
        self.tell(&format!("{weather:?}"));
    }

    fn clear_up(&self) {
        let sites = self.processes.iter().filter(|process| process.lives()).map(|process| &process.site);
        for site in sites.chain(self.clients.iter().map(|client| &client.site)) {
            site.set_weather(Weather::Calm);
        }
    }

    /// What does not hold, if anything does not.
    fn check(&self) -> Result<(), String> {
        if self.wiped.is_some_and(|at| at.elapsed() < SETTLED) {
            self.clients.iter().for_each(|client| client.had.set(false));
            return Ok(());
        }
        let mut lasting = false;
        for id in ["a", "b", "c"] {
            let mut processes = self.processes.iter().filter(|process| process.id == id);
            if processes.clone().any(Process::lives) && processes.all(Process::is_settled) {
                self.check_id(id)?;
                lasting = true;
            }
        }
        self.clients.iter().try_for_each(|client| {
            check_kept(client, lasting)?;
            if is_calm(&client.site) { self.check_view(client, lasting) } else { Ok(()) }
        })
    }

    /// Nothing has happened lately to any server of this id, and one at least lives.
    fn check_id(&self, id: &str) -> Result<(), String> {
        let entry =
            self.shared().world.entry(id).cloned().ok_or_else(|| format!("{id} lives and is not registered"))?;
        let living = || self.processes.iter().filter(|process| process.id == id && process.lives());
        let port_of = |process: &Process| format!("127.0.0.1:{}", process.port);
        let owner = living().find(|process| port_of(process) == entry.address().to_string());
        let owner = owner.ok_or_else(|| format!("{id} is registered at {}, where nobody is", entry.address()))?;
        if entry.weight() != owner.weight {
            return Err(format!("{id} wishes the weight {} and has {}", owner.weight, entry.weight()));
        }
        match living().filter(|process| process.is_registered()).count() {
            1 => Ok(()),
            count => Err(format!("{count} servers say that they are registered as {id}")),
        }
    }

    /// `lasting` says that some server has been registered for long.
    fn check_view(&self, client: &Client, lasting: bool) -> Result<(), String> {
        let view = client.view.lock().unwrap();
        let Some(instances) = &view.instances else { return Err("a client knows nothing".to_owned()) };
        if instances.is_empty() && lasting {
            return Err("a client's set is empty".to_owned());
        }
        for instance in instances.iter() {
            let of =
                self.processes.iter().find(|one| instance.address().to_string() == format!("127.0.0.1:{}", one.port));
            let process = of.ok_or_else(|| format!("a client has {}, who never was", instance.address()))?;
            if !process.lives() && process.since.elapsed() > SETTLED + GRACE {
                return Err(format!("a client has {}, who has been gone for long", instance.address()));
            }
        }
        Ok(())
    }
}
