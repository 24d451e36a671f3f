//! What a case is given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Balancer, Call, Channel, Connect, Member, Members, Outcome, Pick, Picker};
use callboard_interop::Counts;
use callboard_interop::pb::test_service_client::TestServiceClient;

use crate::common::in_time;
use crate::fleet::{Fleet, Kind};

/// A channel to three servers, and the servers.
#[derive(Clone)]
pub struct Client {
    pub fleet: Arc<Fleet>,
    pub channel: Channel,
}

impl Client {
    pub fn stub(&self) -> TestServiceClient<Channel> {
        TestServiceClient::new(self.channel.clone())
    }

    pub fn is_tonic(&self) -> bool {
        self.fleet.kind == Kind::Tonic
    }

    /// A client whose balancer is this one.
    pub async fn balanced(&self, balancer: impl Balancer, ready: usize) -> Self {
        let channel = self.fleet.channel(self.fleet.builder().balancer(balancer), ready).await;
        Self { fleet: Arc::clone(&self.fleet), channel }
    }

    /// Waits until the servers have seen what is wanted.
    pub async fn until(&self, condition: impl Fn(Counts) -> bool) {
        in_time(async {
            while !condition(self.fleet.counts().await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// Another balancer that asks for load reports, and keeps how each call went.
#[derive(Clone, Debug)]
pub struct Noting<B> {
    balancer: B,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

impl<B> Noting<B> {
    pub fn new(balancer: B) -> Self {
        Self { balancer, outcomes: Arc::default() }
    }

    /// How the last call went that has ended.
    pub fn last(&self) -> Option<Outcome> {
        self.outcomes.lock().unwrap().last().cloned()
    }
}

impl<B: Balancer> Balancer for Noting<B> {
    fn name(&self) -> &str {
        "noting"
    }

    fn connect(&self, endpoints: &Members) -> Connect {
        self.balancer.connect(endpoints)
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        Box::new(NotingPicker { picker: self.balancer.picker(ready), outcomes: Arc::clone(&self.outcomes) })
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

#[derive(Debug)]
struct NotingPicker {
    picker: Box<dyn Picker>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

impl Picker for NotingPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.picker.pick(call)
    }

    fn done(&self, picked: Member, outcome: &Outcome) {
        self.picker.done(picked, outcome);
        self.outcomes.lock().unwrap().push(outcome.clone());
    }
}
