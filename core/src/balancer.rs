//! Which endpoints to connect, and which one takes a call.

use std::fmt;
use std::time::Duration;

use http::{Extensions, HeaderMap};

use crate::{Address, Code, Endpoint, Load, Status};

/// Decides which endpoints to connect, and makes a picker of those that are ready.
///
/// A balancer is a function of its endpoints. The channel calls both methods from its one control task, never from a
/// call: [`connect`](Self::connect) whenever the set or what the registry says of it has changed,
/// [`picker`](Self::picker) whenever the ready endpoints have. Neither may block. Health checks, ejection and zones are not its matter:
/// it is given what they let through.
///
/// The name is gRPC's where gRPC has one (`round_robin`), and is what a dial URL's `?balancer=` says.
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// The name under which it is chosen: lower case, words joined by `_`.
    fn name(&self) -> &str;

    /// Says which of the endpoints to connect. All, unless overridden.
    fn connect(&self, endpoints: &[Endpoint]) -> Connect {
        let _ = endpoints;
        Connect::All
    }

    /// Makes the picker for these endpoints, all of them ready. It is called with at least one.
    fn picker(&self, ready: &[Endpoint]) -> Box<dyn Picker>;

    /// How often to make a new picker although nothing has changed, for a balancer that looks at live figures. Never,
    /// unless overridden. Times below 10 ms count as that.
    fn refresh_interval(&self) -> Option<Duration> {
        None
    }

    /// How often each connected endpoint is asked to report its load out of band: over gRPC's
    /// `xds.service.orca.v3.OpenRcaService`, on its connection. The server may report less often, or not at all; see
    /// [`Endpoint::out_of_band_load`]. Never, unless overridden: endpoints may report with each response all the same.
    fn oob_report_interval(&self) -> Option<Duration> {
        None
    }
}

impl<B: Balancer + ?Sized> Balancer for std::sync::Arc<B> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn connect(&self, endpoints: &[Endpoint]) -> Connect {
        (**self).connect(endpoints)
    }

    fn picker(&self, ready: &[Endpoint]) -> Box<dyn Picker> {
        (**self).picker(ready)
    }

    fn refresh_interval(&self) -> Option<Duration> {
        (**self).refresh_interval()
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        (**self).oob_report_interval()
    }
}

/// Which endpoints to connect.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// All of them, and keep them connected.
    All,
    /// One of them: each index in turn, the next one when the one before has failed or `attempt_delay` after it was
    /// started, until one is ready. That one is kept while it works and the others are closed. An endpoint that is
    /// ready already is kept whatever the order says; one that is not listed is not tried.
    InOrder {
        /// Indices into the endpoints that were given.
        order: Vec<usize>,
        /// How long an attempt runs alone before the next one is started beside it.
        attempt_delay: Duration,
    },
}

/// Chooses the endpoint for one call.
///
/// A picker is made for one set of ready endpoints and never changes it; when the set changes, the channel makes a new
/// one. It is called from many tasks at once, for every call: it never blocks, and holds a lock, if it must, for a
/// handful of instructions.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Chooses. An index is one into the `ready` that the picker was made with. What the call
    /// [avoids](Call::avoids) is not to be chosen while there is anything else.
    fn pick(&self, call: &Call<'_>) -> Pick;

    /// Tells what has become of a pick: once for each that named an endpoint, by its index, acted on or not, and perhaps
    /// long after a newer picker has come. So a picker may count in one method what it uncounts in the other. A pick is
    /// not acted on if the endpoint had no free place, or the call's time was up: then nothing was
    /// [sent](Outcome::sent). A call that is sent again is picked for again.
    fn done(&self, picked: usize, outcome: &Outcome) {
        let _ = (picked, outcome);
    }
}

/// What a picker says of a call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Send it to the ready endpoint of this index. An index that is out of range fails the call with `INTERNAL`.
    Endpoint(usize),
    /// Ask again when there is a new picker; the call waits, within its deadline.
    Wait,
    /// Fail the call with this status, unless it is to wait for ready: then ask again when there is a new picker.
    Fail(Status),
    /// Fail the call with this status, whether or not it would wait.
    Drop(Status),
}

/// What a picker sees of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    path: &'a str,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    avoid: Avoid<'a>,
}

/// Where a call had better not go.
#[derive(Clone, Copy, Debug, Default)]
struct Avoid<'a> {
    /// Those that can be chosen.
    ready: &'a [Endpoint],
    /// Where it has failed.
    failed: &'a [Address],
    /// Which of them have no free place now.
    full: &'a [usize],
}

impl<'a> Call<'a> {
    /// Describes a call. Used by the channel, and by tests of pickers.
    pub fn new(path: &'a str, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        Self { path, headers, extensions, avoid: Avoid::default() }
    }

    /// The same call, which has failed at these addresses. `ready` are the endpoints that the picker was made with. Used by
    /// the channel, and by tests of pickers.
    #[must_use]
    pub fn failed_at(mut self, ready: &'a [Endpoint], failed: &'a [Address]) -> Self {
        (self.avoid.ready, self.avoid.failed) = (ready, failed);
        self
    }

    /// The same call, which finds no place at the ready endpoints of these indices. Used by the channel, and by tests of
    /// pickers.
    #[must_use]
    pub fn no_place_at(mut self, full: &'a [usize]) -> Self {
        self.avoid.full = full;
        self
    }

    /// Whether there is anything that the call had better not be given to. Nearly always there is not: a picker need not
    /// look at [`avoids`](Self::avoids) then.
    pub fn avoids_any(&self) -> bool {
        !self.avoid.failed.is_empty() || !self.avoid.full.is_empty()
    }

    /// Whether the call had better go to another endpoint than the ready one of this index: it has failed there, or there is
    /// no free place. A picker that has nothing else to choose may choose it all the same: the call is then sent there
    /// again, or waits for a place.
    pub fn avoids(&self, index: usize) -> bool {
        let Avoid { ready, failed, full } = self.avoid;
        full.contains(&index)
            || !failed.is_empty()
                && ready.get(index).is_some_and(|endpoint| failed.contains(endpoint.instance().address()))
    }

    /// The method's path: `/package.Service/Method`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The request's headers: its ASCII and binary metadata.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// A value of the caller's own, as it was put into the request's extensions.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.extensions.get()
    }
}

/// How a call went.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The status that the call ended with. `CANCELLED` if the caller went away before its end, or if the pick was not
    /// acted on.
    pub code: Code,
    /// Whether a request was sent to the endpoint.
    pub sent: bool,
    /// From sending the request to the end of the call.
    pub latency: Duration,
    /// What the response has reported of the endpoint's load, and of the call's cost. None if it has not.
    pub load: Option<Load>,
}

impl Outcome {
    /// Describes an outcome. Used by the channel, and by tests of pickers.
    pub fn new(code: Code, latency: Duration) -> Self {
        Self { code, sent: true, latency, load: None }
    }

    /// Of a pick by which nothing was sent.
    pub fn unsent() -> Self {
        Self { code: Code::Cancelled, sent: false, latency: Duration::ZERO, load: None }
    }

    /// The same, with a report.
    #[must_use]
    pub fn load(self, load: Option<Load>) -> Self {
        Self { load, ..self }
    }
}
