//! Which endpoints to connect, and which one takes a call.

mod call;
mod members;
mod metadata;
mod outcome;
mod picker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::call::Call;
pub use self::members::{Member, Members};
pub use self::metadata::CallMetadata;
pub use self::outcome::Outcome;
pub use self::picker::{Pick, Picker};

/// Decides which endpoints to connect, and makes the pickers that choose one for each call.
///
/// A balancer is a function of its [`Members`]. The channel calls its methods from its one control task, never from a
/// call: [`connect`](Self::connect) whenever the set or a registration in it has changed, [`picker`](Self::picker)
/// whenever the set or the ready endpoints have. No method may block.
///
/// The name is gRPC's where gRPC has one (`round_robin`). A dial URL selects the balancer by it:
/// `?balancer=round_robin`.
///
/// # A balancer with a child
/// A wrapper narrows the members and leaves the choice to another balancer. A [`Member`] means the same endpoint in
/// every view, so a wrapper returns what its child returns:
///
/// ```
/// use std::sync::Arc;
/// use callboard_core::{Balancer, Connect, Members, Picker};
///
/// /// Leaves out what the registry marks as a canary.
/// #[derive(Debug)]
/// struct WithoutCanaries(Arc<dyn Balancer>);
///
/// fn stable(members: &Members) -> Members {
///     members.subset(|member| members[member].instance().metadata().get("canary").is_none())
/// }
///
/// impl Balancer for WithoutCanaries {
///     fn name(&self) -> &str {
///         "without_canaries"
///     }
///
///     fn connect(&self, members: &Members) -> Connect {
///         self.0.connect(&stable(members)).within(&stable(members))
///     }
///
///     fn picker(&self, members: &Members) -> Box<dyn Picker> {
///         self.0.picker(&stable(members))
///     }
/// }
/// ```
///
/// A wrapper forwards the other methods to its child, too.
pub trait Balancer: fmt::Debug + Send + Sync + 'static {
    /// The name by which it is selected: lower case, words joined by `_`.
    fn name(&self) -> &str;

    /// Returns which of the members to connect. All, unless overridden.
    fn connect(&self, members: &Members) -> Connect {
        let _ = members;
        Connect::All
    }

    /// Makes the picker for these members, as they are now. At least one of them is ready, unless
    /// [`connect`](Self::connect) has returned [`Only`](Connect::Only).
    fn picker(&self, members: &Members) -> Box<dyn Picker>;

    /// Whether to make a new picker whenever the state of any member changes, and not only when the set or the ready
    /// members change. False, unless overridden: most balancers use ready members alone.
    fn watches_states(&self) -> bool {
        false
    }

    /// Whether the weights in the registry make a difference. True, unless overridden. If not, and weights differ, the channel
    /// logs that once.
    fn uses_weights(&self) -> bool {
        true
    }

    /// How often to make a new picker even if nothing has changed, for a balancer that uses live figures. Never, unless
    /// overridden. Less than 10 ms counts as 10 ms.
    fn refresh_interval(&self) -> Option<Duration> {
        None
    }

    /// How often each connected endpoint is requested to report its load out of band: by gRPC's
    /// `xds.service.orca.v3.OpenRcaService`, on its connection. The server may report less often, or not at all; see
    /// [`Endpoint::out_of_band_load`](crate::Endpoint::out_of_band_load). Never, unless overridden. Endpoints may
    /// report with each response in any case.
    fn oob_report_interval(&self) -> Option<Duration> {
        None
    }
}

impl<B: Balancer + ?Sized> Balancer for Arc<B> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn connect(&self, members: &Members) -> Connect {
        (**self).connect(members)
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        (**self).picker(members)
    }

    fn watches_states(&self) -> bool {
        (**self).watches_states()
    }

    fn uses_weights(&self) -> bool {
        (**self).uses_weights()
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
    /// These, and keep them connected, and any other one when a pick [asks for it](Pick::Connect). If the list is
    /// empty, all connections are made on demand. An endpoint that was connected on demand becomes idle when its
    /// connection is lost. An endpoint that is not listed any more is closed, after its calls.
    Only(Vec<Member>),
    /// One of them. They are tried in order, the next one when the one before has failed or `attempt_delay` after it
    /// was started, until one is ready. That one is kept while it works, and the others are closed. An endpoint that is
    /// ready already is kept, wherever it is in the order. One that is not listed is not tried.
    InOrder {
        /// The members to try, in this order.
        order: Vec<Member>,
        /// How long an attempt runs alone before the next one is started beside it.
        attempt_delay: Duration,
    },
}

impl Connect {
    /// Connects only the members that picks [ask for](Pick::Connect).
    pub fn on_demand() -> Self {
        Self::Only(Vec::new())
    }

    /// The same, with `All` replaced by the members of `view`. A wrapper uses it to return what its child has returned
    /// for a narrowed view.
    #[must_use]
    pub fn within(self, view: &Members) -> Self {
        match self {
            Self::All => Self::Only(view.iter().collect()),
            other => other,
        }
    }
}
