//! What fuzz targets reach of the reading of lists. It is compiled with `--cfg fuzzing` alone, and no part of the
//! interface.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Call, Endpoint, Instance, Member, Members, Pick, Picker};
use tonic::Status;

use super::answer::{Answer, Said as Read};
use super::decision::{Decision, News};
use super::list::List;
use super::picker::ListPicker;
use super::status::Lookaside;
use super::subset::Subset;

/// A channel's side of a conversation, without the connection.
#[derive(Debug)]
pub struct Conversation {
    decision: Decision,
    subset: Subset,
}

/// What a balancer has said.
#[derive(Debug)]
pub enum Said {
    /// How often it wants reports.
    Initial(Duration),
    /// A list that counts.
    List(Listed),
    /// A list without an entry that makes sense.
    Nonsense,
    /// To do without it.
    Fallback,
    /// Something that is not known.
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
    /// If it is none.
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

    /// Who decides.
    pub fn status(&self) -> Lookaside {
        self.decision.status()
    }
}

impl Listed {
    /// The servers, each once.
    pub fn servers(&self) -> &[Arc<Instance>] {
        self.0.servers()
    }

    /// How many entries there are, those that drop included; how many those are; and how many were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.0.entries().len(), self.0.drops(), self.0.skipped())
    }

    /// Whether the other says the same.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.same_as(&other.0)
    }

    /// Where one call after the other goes among these endpoints: a place, or None for one that is dropped, and nothing
    /// at all if calls wait.
    pub fn steer(&self, endpoints: &[Endpoint], calls: usize) -> Vec<Option<usize>> {
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
