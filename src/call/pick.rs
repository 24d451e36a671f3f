//! Choosing the endpoint, and reserving a slot on its connection.

use std::future::{pending, poll_fn};
use std::sync::Arc;

use callboard_core::{Address, Call, CallMetadata, ConnectivityState, Member, Outcome, Pick};
use tonic::Status;

use super::attempt::Attempt;
use super::retry::Retries;
use crate::config::Rules;
use crate::control::{Chooser, Connections, News, Picking, Published, Shared, Verdict};
use crate::grpc::{self, status};
use crate::transport::{Connection, Expiry, Slot, Turn, Wait};

/// How often the picker is asked again when the chosen endpoint has no free stream, before the call waits for one.
const OTHER_CHOICES: usize = 8;

/// What the choice of an endpoint depends on.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    call: Call<'a>,
    wait_for_ready: bool,
    /// The number of the attempt, from 1.
    attempt: u32,
    /// Endpoints at which the call has failed. Others are preferred.
    avoid: &'a [Address],
    /// The deadline, which ends the wait.
    deadline: Option<&'a Arc<Expiry>>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(
        call: Call<'a>,
        wait_for_ready: bool,
        past: Option<&'a Retries>,
        deadline: Option<&'a Arc<Expiry>>,
    ) -> Self {
        let attempt = Retries::number(past);
        let call = call.after_attempts(attempt - 1);
        Self { call, wait_for_ready, attempt, avoid: Retries::failed_at(past), deadline }
    }

    /// The attempt made from a pick.
    fn attempt(&self, picked: Picked, rules: Option<&Arc<Rules>>) -> Attempt {
        let (chooser, member, metadata) = picked.used();
        Attempt::new(chooser, member, metadata, self.attempt, rules.cloned())
    }
}

/// Why no endpoint was chosen.
pub(super) enum Unchosen {
    /// The picker has failed the call, or the channel's task has ended.
    Failed(Status),
    /// No endpoint works now, and a retry policy may apply.
    Down(Box<Down>),
}

/// Why no endpoint works, and the rules of the service config.
pub(super) struct Down {
    pub(super) status: Status,
    pub(super) rules: Arc<Rules>,
}

/// A slot at the endpoint and the attempt that it is for, or why there are none.
pub(super) type Chosen = Result<(Slot, Attempt), Unchosen>;

/// The result of one look at the published state.
enum Look {
    Chosen(Slot, Attempt),
    /// Nothing can be chosen until the state changes.
    Wait,
    /// These could be chosen, but have no free stream.
    Full(Vec<Full>, Option<Arc<Rules>>),
    Fail(Unchosen),
}

/// An endpoint that was picked and has no free stream.
struct Full {
    picked: Picked,
    connections: Vec<Arc<Connection>>,
}

/// A pick. The outcome is reported to the picker, also if the pick is not used.
struct Picked(Option<(Arc<Chooser>, Member, Option<Arc<CallMetadata>>)>);

impl Picked {
    fn with_member(self) -> Option<(Self, Member)> {
        let (_, member, _) = *self.0.as_ref()?;
        Some((self, member))
    }

    fn used(mut self) -> (Arc<Chooser>, Member, Option<Arc<CallMetadata>>) {
        self.0.take().expect("it is taken once, here")
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some((chooser, member, _)) = self.0.take() {
            chooser.picker.done(member, &Outcome::unused());
        }
    }
}

/// Asks the current picker. None if the call has to wait: for a picker, or for a stream.
pub(super) fn choose_now(shared: &Shared, wish: Wish<'_>) -> Option<Chosen> {
    match look(&shared.published(), &wish) {
        Look::Chosen(slot, attempt) => Some(Ok((slot, attempt))),
        Look::Fail(why) => Some(Err(why)),
        Look::Wait | Look::Full(..) => None,
    }
}

/// Waits for a picker, asks it, and waits for a stream at the chosen endpoint. The caller bounds the time.
pub(super) async fn choose(shared: &Shared, wish: Wish<'_>) -> Chosen {
    let Some(_waits) = shared.waiting.begin() else { return Err(Unchosen::Failed(too_many(shared))) };
    let turn = shared.next_turn();
    if let Some(deadline) = wish.deadline {
        deadline.wait(&turn);
    }
    loop {
        let (looked, News { changed, moved, .. }) = shared.look(|published| look(published, &wish));
        match looked {
            Look::Chosen(slot, attempt) => return Ok((slot, attempt)),
            Look::Fail(why) => return Err(why),
            Look::Wait => {
                shared.note_wait();
                changed.await;
            }
            Look::Full(full, rules) => tokio::select! {
                () = moved => {}
                (slot, picked) = a_place(shared, &turn, full) => return Ok((slot, wish.attempt(picked, rules.as_ref()))),
            },
        }
    }
}

/// The status of a call that would have to wait while no more may.
pub(super) fn too_many(shared: &Shared) -> Status {
    let waiting = shared.waiting.count();
    Status::resource_exhausted(format!(
        "{waiting} calls wait for an endpoint or a stream already, and max_waiting_calls permits no more: {}",
        shared.published().summary
    ))
}

/// Waits for its turn at any of these. Returns the slot and the pick that it is for.
async fn a_place(shared: &Shared, turn: &Arc<Turn>, mut full: Vec<Full>) -> (Slot, Picked) {
    let (mut at, mut whose) = (Vec::new(), Vec::new());
    for (index, Full { connections, .. }) in full.iter_mut().enumerate() {
        whose.extend(std::iter::repeat_n(index, connections.len()));
        at.append(connections);
    }
    let mut wait = Wait::begin(turn, at);
    shared.note_crowd();
    match poll_fn(|cx| wait.poll(cx)).await {
        Some((at, slot)) => (slot, full.swap_remove(whose[at]).picked),
        // The deadline has passed, and ends the call.
        None => pending().await,
    }
}

fn look(published: &Published, wish: &Wish<'_>) -> Look {
    match &published.verdict {
        Verdict::Pick(picking) => match ask(picking, published.rules.as_ref(), wish) {
            // Calls that fail fast do not wait if the picker has nothing to choose from.
            Look::Wait if published.state == ConnectivityState::TransientFailure => down(published, wish),
            look => look,
        },
        Verdict::Wait => Look::Wait,
        Verdict::Fail => down(published, wish),
        Verdict::Ended => {
            let why = "the channel's task has ended, by a panic of its balancer or with its runtime";
            let status = Status::unavailable(format!("{}; {why}", published.summary));
            Look::Fail(Unchosen::Failed(grpc::nowhere(status, published.summary.cause())))
        }
    }
}

/// What happens to a call while no endpoint works.
fn down(published: &Published, wish: &Wish<'_>) -> Look {
    if wish.wait_for_ready {
        return Look::Wait;
    }
    let status = Status::unavailable(published.summary.to_string());
    let status = grpc::nowhere(status, published.summary.cause());
    Look::Fail(match &published.rules {
        None => Unchosen::Failed(status),
        Some(rules) => Unchosen::Down(Box::new(Down { status, rules: Arc::clone(rules) })),
    })
}

fn ask(picking: &Picking, rules: Option<&Arc<Rules>>, wish: &Wish<'_>) -> Look {
    let chooser = &picking.chooser;
    let mut found = Found::default();
    for asked in 0..=OTHER_CHOICES {
        let call = wish.call.failed_at(&chooser.members, wish.avoid).no_place_at(&found.full_at);
        let call = if asked == 0 { call } else { call.again() };
        let (member, metadata) = match chooser.picker.pick(&call) {
            Pick::To(member) => (member, None),
            Pick::With(member, metadata) => (member, Some(metadata)),
            Pick::Connect(member) => {
                picking.demand(member);
                break;
            }
            Pick::Fail(_) if wish.wait_for_ready => return Look::Wait,
            Pick::Fail(status) | Pick::Drop(status) => return Look::Fail(Unchosen::Failed(status::of_picker(status))),
            // `Pick` is non-exhaustive; for an unknown variant the call waits.
            _ => break,
        };
        let Some(endpoint) = chooser.members.get(member) else {
            let message =
                format!("the picker chose a member of another set than the {} there are", chooser.members.len());
            return Look::Fail(Unchosen::Failed(Status::internal(message)));
        };
        let picked = Picked(Some((Arc::clone(chooser), member, metadata)));
        // It is not ready: its state will change.
        let Some(connections) = picking.connections(member) else { break };
        if chooser.members.len() > 1 && wish.avoid.contains(endpoint.instance().address()) {
            found.failed.get_or_insert(picked);
        } else if let Some(slot) = connections.iter().find_map(Connection::try_reserve) {
            return Look::Chosen(slot, wish.attempt(picked, rules));
        } else if found.full_at.contains(&member) {
            // A picker may insist on its choice, for instance by a hash. It is not asked for ever.
            break;
        } else {
            found.note_full(picked, member, connections);
        }
    }
    found.decide(picking, rules, wish)
}

/// Picks of one call that cannot be used now.
#[derive(Default)]
struct Found {
    /// Endpoints without a free stream.
    full: Vec<Full>,
    full_at: Vec<Member>,
    /// A pick where the call has failed before: used if there is no other.
    failed: Option<Picked>,
}

impl Found {
    fn note_full(&mut self, picked: Picked, member: Member, connections: &Connections) {
        self.full_at.push(member);
        self.full.push(Full { picked, connections: connections.iter().cloned().collect() });
    }

    fn decide(mut self, picking: &Picking, rules: Option<&Arc<Rules>>, wish: &Wish<'_>) -> Look {
        if self.full.is_empty()
            && let Some((picked, member)) = self.failed.take().and_then(Picked::with_member)
            && let Some(connections) = picking.connections(member)
        {
            if let Some(slot) = connections.iter().find_map(Connection::try_reserve) {
                return Look::Chosen(slot, wish.attempt(picked, rules));
            }
            self.note_full(picked, member, connections);
        }
        if self.full.is_empty() { Look::Wait } else { Look::Full(self.full, rules.cloned()) }
    }
}
