//! Which endpoints to connect, and which one takes a call.

use std::fmt;
use std::time::Duration;

use http::{Extensions, HeaderMap};

use crate::{Code, Endpoint, Load, Status};

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
    fn renew_every(&self) -> Option<Duration> {
        None
    }

    /// How often each connected endpoint is asked to report its load out of band: over gRPC's
    /// `xds.service.orca.v3.OpenRcaService`, on its connection. The server may report less often, or not at all; see
    /// [`Endpoint::out_of_band_load`]. Never, unless overridden: endpoints may report with each response all the same.
    fn load_reports(&self) -> Option<Duration> {
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

    fn renew_every(&self) -> Option<Duration> {
        (**self).renew_every()
    }

    fn load_reports(&self) -> Option<Duration> {
        (**self).load_reports()
    }
}

/// Which endpoints to connect.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// All of them, and keep them connected.
    All,
    /// One of them: each index in turn, the next one when the one before has failed or `stagger` after it was
    /// started, until one is ready. That one is kept while it works and the others are closed. An endpoint that is
    /// ready already is kept whatever the order says; one that is not listed is not tried.
    InOrder {
        /// Indices into the endpoints that were given.
        order: Vec<usize>,
        /// How long an attempt runs alone before the next one is started beside it.
        stagger: Duration,
    },
}

/// Chooses the endpoint for one call.
///
/// A picker is made for one set of ready endpoints and never changes it; when the set changes, the channel makes a new
/// one. It is called from many tasks at once, for every call: it never blocks, and holds a lock, if it must, for a
/// handful of instructions.
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Chooses. An index is one into the `ready` that the picker was made with.
    fn pick(&self, call: &Call<'_>) -> Pick;

    /// Tells how a call went that was given to the endpoint of this index. Called once for each pick that was acted on,
    /// also when the caller has gone or the request could not be sent; perhaps long after a newer picker has come. A
    /// call that is sent again is picked for again.
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
}

impl<'a> Call<'a> {
    /// Describes a call. Used by the channel, and by tests of pickers.
    pub fn new(path: &'a str, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        Self { path, headers, extensions }
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
    /// The status that the call ended with. `CANCELLED` if the caller went away before its end.
    pub code: Code,
    /// From sending the request to the end of the call.
    pub latency: Duration,
    /// What the response has reported of the endpoint's load, and of the call's cost. None if it has not.
    pub load: Option<Load>,
}

impl Outcome {
    /// Describes an outcome. Used by the channel, and by tests of pickers.
    pub fn new(code: Code, latency: Duration) -> Self {
        Self { code, latency, load: None }
    }

    /// The same, with a report.
    #[must_use]
    pub fn load(self, load: Option<Load>) -> Self {
        Self { load, ..self }
    }
}
