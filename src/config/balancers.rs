//! Makes a balancer from its name and settings.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use callboard_core::{Balancer, BalancerSettings, Error, ErrorKind, PolicyConfig, Result};

use super::names::{Known, Names};

pub(crate) type MakeBalancer = dyn Fn(&BalancerSettings) -> Result<Arc<dyn Balancer>> + Send + Sync;

/// How many names of unknown balancers an error lists.
const MOST_NAMES: usize = 8;

/// The balancers that a URL or a service config can name.
#[derive(Clone)]
pub(crate) struct Balancers(Names<MakeBalancer>);

impl Balancers {
    /// These balancers. Those whose feature is off can be named, but not made.
    pub(crate) fn new(known: impl IntoIterator<Item = Known<MakeBalancer>>) -> Self {
        Self(Names::new("balancer", known))
    }

    /// Adds a balancer that is made anew for each channel and for each change of its settings. It replaces one of the
    /// same name.
    pub(crate) fn add(
        &mut self,
        name: &str,
        make: impl Fn(&BalancerSettings) -> Result<Arc<dyn Balancer>> + Send + Sync + 'static,
    ) {
        self.0.add(name, Arc::new(make));
    }

    /// Adds a balancer without settings. It replaces one of the same name.
    pub(crate) fn add_made(&mut self, balancer: Arc<dyn Balancer>) {
        let name = balancer.name().to_owned();
        self.add(&name, move |_| Ok(Arc::clone(&balancer)));
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// The first known balancer in a service config's list. None if the list is empty, which leaves the choice to the
    /// client.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if the list is not empty and none is known.
    pub(crate) fn first_known<'a>(&self, list: &'a [PolicyConfig]) -> Result<Option<&'a PolicyConfig>> {
        let found = list.iter().find(|policy| self.knows(&policy.name));
        if found.is_some() || list.is_empty() {
            return Ok(found);
        }
        let mut asked: Vec<_> = list.iter().take(MOST_NAMES).map(|policy| self.0.why_not(&policy.name)).collect();
        if list.len() > MOST_NAMES {
            asked.push(format!("and {} more", list.len() - MOST_NAMES));
        }
        let (asked, known) = (asked.join(", "), self.0.usable().join(", "));
        let message = format!("loadBalancingConfig: no balancer in it is known here: {asked} (known: {known})");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Makes the balancer of this name.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if there is none; the error of its constructor;
    /// [`Invalid`](ErrorKind::Invalid) if that panics.
    pub(crate) fn make(&self, name: &str, settings: &BalancerSettings) -> Result<Arc<dyn Balancer>> {
        let make = self.0.find(name)?;
        // It is the user's code, and may run in the channel's task, which must not end because of a config.
        catch_unwind(AssertUnwindSafe(|| make(settings))).unwrap_or_else(|panic| {
            Err(Error::invalid(format!("making balancer {name:?} has panicked: {}", said(&*panic))))
        })
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl fmt::Debug for Balancers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.usable()).finish()
    }
}
