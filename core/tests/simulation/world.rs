//! The registry itself: what stands there, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Instance, Result, Snapshot, conflict};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long an entry stands that nobody keeps alive.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(10);

/// Names one claim.
pub type Token = u64;

struct Entry {
    instance: Arc<Instance>,
    token: Token,
    /// The last change that was made. One that comes late does not undo it: backends write over what they have seen.
    change: u64,
    until: Instant,
}

/// What stands there. Everything that is asked of it is one step.
pub struct World {
    entries: BTreeMap<String, Entry>,
    /// Claims that are over. What is asked in their name comes too late.
    over: BTreeSet<Token>,
    /// How many changes there were, and who waits for the next: in the order in which they came, as a seed needs it.
    changes: u64,
    waiting: Arc<Notify>,
    /// What has happened, for people, and to tell two courses apart.
    pub story: String,
    begun: Instant,
}

impl World {
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            over: BTreeSet::new(),
            changes: 0,
            waiting: Arc::default(),
            story: String::new(),
            begun: Instant::now(),
        }
    }

    /// Writes down what has happened.
    pub fn tell(&mut self, what: &str) {
        let at = self.begun.elapsed().as_millis();
        self.story += &format!("{at:>7} {what}\n");
    }

    /// Registers. The same claim may come twice.
    pub fn claim(&mut self, instance: &Instance, token: Token) -> Result<()> {
        self.expire();
        if self.over.contains(&token) {
            return Err(Error::new(ErrorKind::Lost, "the claim is over"));
        }
        match self.entries.get(instance.id()) {
            Some(there) if there.token == token => return Ok(()),
            Some(there) if there.instance.incarnation() > instance.incarnation() => {
                self.over.insert(token);
                return Err(conflict(instance.incarnation(), &there.instance));
            }
            Some(there) => drop(self.over.insert(there.token)),
            None => {}
        }
        self.tell(&format!("claim {} by {token}, incarnation {}", instance.id(), instance.incarnation()));
        let until = Instant::now() + TIME_TO_LIVE;
        self.entries
            .insert(instance.id().to_owned(), Entry { instance: Arc::new(instance.clone()), token, change: 0, until });
        self.changed();
        Ok(())
    }

    /// Changes or, without an instance, keeps alive.
    pub fn keep(&mut self, mine: &Instance, token: Token, change: Option<(u64, &Instance)>) -> Result<()> {
        self.expire();
        match self.entries.get_mut(mine.id()) {
            Some(entry) if entry.token == token => {
                entry.until = Instant::now() + TIME_TO_LIVE;
                let Some((number, change)) = change.filter(|(number, _)| *number > entry.change) else { return Ok(()) };
                (entry.instance, entry.change) = (Arc::new(change.clone()), number);
                self.tell(&format!("change {} by {token}, weight {}", change.id(), change.weight()));
                self.changed();
                Ok(())
            }
            Some(entry) if entry.instance.incarnation() >= mine.incarnation() => {
                Err(conflict(mine.incarnation(), &entry.instance))
            }
            _ => Err(Error::new(ErrorKind::Lost, "the entry is not there")),
        }
    }

    pub fn revoke(&mut self, id: &str, token: Token) {
        self.expire();
        self.over.insert(token);
        if self.entries.get(id).is_some_and(|entry| entry.token == token) {
            self.tell(&format!("revoke {id} by {token}"));
            self.entries.remove(id);
            self.changed();
        }
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.tell("wipe");
        let entries = std::mem::take(&mut self.entries);
        self.over.extend(entries.into_values().map(|entry| entry.token));
        self.changed();
    }

    /// Removes what nobody has kept alive.
    pub fn expire(&mut self) {
        let now = Instant::now();
        let dead: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.until <= now).map(|(id, _)| id.clone()).collect();
        for id in dead {
            let entry = self.entries.remove(&id);
            self.over.extend(entry.map(|entry| entry.token));
            self.tell(&format!("expire {id}"));
            self.changed();
        }
    }

    pub fn set(&self) -> Snapshot {
        Snapshot::new(self.entries.values().map(|entry| Arc::clone(&entry.instance)))
    }

    /// What stands under an id.
    pub fn entry(&self, id: &str) -> Option<&Arc<Instance>> {
        self.entries.get(id).map(|entry| &entry.instance)
    }

    /// How many changes there were, and what tells of the next.
    pub fn changes(&self) -> (u64, Arc<Notify>) {
        (self.changes, Arc::clone(&self.waiting))
    }

    fn changed(&mut self) {
        self.changes += 1;
        self.waiting.notify_waiters();
    }
}
