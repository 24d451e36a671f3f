//! The decoding of lists, for fuzz targets. It is compiled with `--cfg fuzzing` alone, and is not part of the API.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Call, ConnectivityState, Endpoint, Instance, Member, Members, Pick, Picker};
use tonic::Status;

use super::answer::{Answer, Said as Read};
use super::list::List;
use super::list_or_registry::{Decision, News};
use super::picker::ListPicker;
use super::status::Lookaside;
use super::subset::Subset;

/// A channel's side of a stream to a balancer, without the connection.
#[derive(Debug)]
pub struct Conversation {
    decision: Decision,
    subset: Subset,
}

/// A message of a balancer.
#[derive(Debug)]
pub enum Said {
    /// The interval of reports.
    Initial(Duration),
    /// A list that counts.
    List(Listed),
    /// A list without a valid entry.
    Nonsense,
    /// A request for fallback.
    Fallback,
    /// An unknown message.
    Unknown,
}

/// A list that counts.
#[derive(Clone, Debug)]
pub struct Listed(Arc<List>);

impl Conversation {
    /// With a bound on the entries of a list.
    pub fn new(most: usize) -> Self {
        Self { decision: Decision::new(false), subset: Subset::to(most) }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// If it cannot be decoded.
    pub async fn take(&mut self, message: Vec<u8>) -> Result<Said, Status> {
        Ok(match Answer::of(message).read(&Arc::default(), self.subset).await? {
            Read::Initial(every) => Said::Initial(every),
            Read::List(Some(list)) => {
                self.decision.take(News::List(Arc::clone(&list)));
                Said::List(Listed(list))
            }
            Read::List(None) => Said::Nonsense,
            Read::Fallback => {
                self.decision.take(News::Fallback);
                Said::Fallback
            }
            Read::Unknown => Said::Unknown,
        })
    }

    /// What decides.
    pub fn status(&self) -> Lookaside {
        self.decision.status()
    }
}

impl Listed {
    /// The servers, each once.
    pub fn servers(&self) -> &[Arc<Instance>] {
        self.0.servers()
    }

    /// The number of entries, including drop entries; the number of drop entries; and the number of skipped ones.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.0.entries().len(), self.0.drops(), self.0.skipped())
    }

    /// Whether both lists are equal.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.same_as(&other.0)
    }

    /// The picks of consecutive calls among these endpoints: an index, or None for a drop; no items if calls wait.
    pub fn steer(&self, endpoints: &[Endpoint], calls: usize) -> Vec<Option<usize>> {
        endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
        let members = Members::new(endpoints);
        let picker = ListPicker::new(&self.0, &members);
        let (headers, extensions) = Default::default();
        let call = Call::new("/a.B/C", &headers, &extensions);
        let picked = (0..calls).map(|_| picker.pick(&call));
        picked
            .filter_map(|pick| match pick {
                Pick::Drop(_) => Some(None),
                Pick::Wait => None,
                other => Some(other.member().map(Member::index)),
            })
            .collect()
    }
}
