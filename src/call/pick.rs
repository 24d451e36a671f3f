//! Choosing the endpoint, and taking a place on its connection.

use std::future::{pending, poll_fn};
use std::sync::Arc;

use callboard_core::{Address, Call, Outcome, Pick};
use tonic::Status;

use super::repetition::Repetition;
use super::ticket::Ticket;
use super::{origin, status};
use crate::control::{Choice, Connections, Published, Ready, Rules, Verdict};
use crate::lookaside::{Errand, Mark, Steered};
use crate::publication::News;
use crate::shared::Shared;
use crate::transport::{Connection, Expiry, Slot, Turn, Wait};

/// How often the picker is asked again when what it chose has no free place, before the call waits for one.
const OTHER_CHOICES: usize = 8;

/// What a call wants of the choice.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    call: Call<'a>,
    wait_for_ready: bool,
    /// Which attempt it is, from 1.
    attempt: u32,
    /// Endpoints at which the call has failed: not again, if there is another one.
    avoid: &'a [Address],
    /// What ends the call's wait, if anything does.
    deadline: Option<&'a Arc<Expiry>>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(
        call: Call<'a>,
        wait_for_ready: bool,
        past: Option<&'a Repetition>,
        deadline: Option<&'a Arc<Expiry>>,
    ) -> Self {
        Self { call, wait_for_ready, attempt: Repetition::number(past), avoid: Repetition::failed_at(past), deadline }
    }

    /// The ticket of a pick that is acted on.
    fn ticket(&self, picked: Picked, rules: Option<&Arc<Rules>>) -> Ticket {
        let (choice, index, errand) = picked.act_on();
        Ticket::new(choice, index, self.attempt, rules.cloned(), errand)
    }
}

/// Why no endpoint is chosen.
pub(super) enum Unchosen {
    /// The picker has failed the call, or nobody will choose any more.
    Failed(Status),
    /// No endpoint works for now, and there is a config that may say what to do about it.
    Down(Box<Down>),
}

/// Why no endpoint works, and what the service's config says of calls.
pub(super) struct Down {
    pub(super) status: Status,
    pub(super) rules: Arc<Rules>,
}

/// The endpoint's place and the attempt's ticket, or why there are none.
pub(super) type Chosen = Result<(Slot, Ticket), Unchosen>;

/// What one look at the published state gives.
enum Look {
    Chosen(Slot, Ticket),
    /// Nothing can be chosen until there is something new.
    Wait,
    /// These could be chosen, but have no free place.
    Full(Vec<Full>, Option<Arc<Rules>>),
    Fail(Unchosen),
}

/// An endpoint that was picked and has no free place.
struct Full {
    picked: Picked,
    connections: Vec<Arc<Connection>>,
}

/// What a picker has picked. The picker is told of it, acted on or not.
struct Picked(Option<(Arc<Choice>, usize, Option<Arc<Mark>>)>);

impl Picked {
    fn with_index(self) -> Option<(Self, usize)> {
        let (_, index, _) = *self.0.as_ref()?;
        Some((self, index))
    }

    fn act_on(mut self) -> (Arc<Choice>, usize, Option<Errand>) {
        let (choice, index, mark) = self.0.take().expect("it is taken once, here");
        (choice, index, mark.map(Errand::new))
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some((choice, index, _)) = self.0.take() {
            choice.picker.done(index, &Outcome::unsent());
        }
    }
}

/// Asks the picker that there is. None if the call has to wait: for a picker, or for a place.
pub(super) fn choose_now(shared: &Shared, wish: Wish<'_>) -> Option<Chosen> {
    match look(&shared.published(), &wish) {
        Look::Chosen(slot, ticket) => Some(Ok((slot, ticket))),
        Look::Fail(why) => Some(Err(why)),
        Look::Wait | Look::Full(..) => None,
    }
}

/// Waits for a picker, asks it, and waits for a place where it says. The caller bounds the time.
pub(super) async fn choose(shared: &Shared, wish: Wish<'_>) -> Chosen {
    let Some(_waits) = shared.waiting.begin() else { return Err(Unchosen::Failed(too_many(shared))) };
    let turn = shared.next_turn();
    if let Some(deadline) = wish.deadline {
        deadline.wait(&turn);
    }
    loop {
        let (looked, News { changed, moved, .. }) = shared.look(|published| look(published, &wish));
        match looked {
            Look::Chosen(slot, ticket) => return Ok((slot, ticket)),
            Look::Fail(why) => return Err(why),
            Look::Wait => {
                shared.note_wait();
                changed.await;
            }
            Look::Full(full, rules) => tokio::select! {
                () = moved => {}
                (slot, picked) = a_place(shared, &turn, full) => return Ok((slot, wish.ticket(picked, rules.as_ref()))),
            },
        }
    }
}

/// The status of a call that would have to wait, and may not.
pub(super) fn too_many(shared: &Shared) -> Status {
    let waiting = shared.waiting.count();
    Status::resource_exhausted(format!(
        "{waiting} calls wait for an endpoint or a place already, and max_waiting_calls permits no more: {}",
        shared.published().summary
    ))
}

/// Waits in line for a place at any of these, and gives it with the pick that it is for.
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
        // The call's time is up, and its deadline ends it.
        None => pending().await,
    }
}

fn look(published: &Published, wish: &Wish<'_>) -> Look {
    match &published.verdict {
        Verdict::Pick(ready) => ask(ready, published.rules.as_ref(), wish),
        Verdict::Wait => Look::Wait,
        Verdict::Fail if wish.wait_for_ready => Look::Wait,
        Verdict::Fail => {
            let status = Status::unavailable(published.summary.to_string());
            let status = origin::nowhere(status, published.summary.cause());
            Look::Fail(match &published.rules {
                None => Unchosen::Failed(status),
                Some(rules) => Unchosen::Down(Box::new(Down { status, rules: Arc::clone(rules) })),
            })
        }
        Verdict::Ended => {
            let why = "the channel's task has ended, by a panic of its balancer or with its runtime";
            let status = Status::unavailable(format!("{}; {why}", published.summary));
            Look::Fail(Unchosen::Failed(origin::nowhere(status, published.summary.cause())))
        }
    }
}

/// What the picker says or, if a balancer's list decides, that.
fn pick(choice: &Choice, call: &Call<'_>, first: bool) -> (Pick, Option<Arc<Mark>>) {
    let Some(steering) = &choice.steering else { return (choice.picker.pick(call), None) };
    match steering.pick(call, first) {
        Steered::To(index, mark) => (Pick::Endpoint(index), Some(mark)),
        Steered::Drop(status) => (Pick::Drop(status), None),
        Steered::Wait => (Pick::Wait, None),
    }
}

fn ask(ready: &Ready, rules: Option<&Arc<Rules>>, wish: &Wish<'_>) -> Look {
    let Ready { choice, connections } = ready;
    let mut found = Found::default();
    for asked in 0..=OTHER_CHOICES {
        let call = wish.call.failed_at(&choice.endpoints, wish.avoid).no_place_at(&found.full_at);
        let (pick, mark) = pick(choice, &call, asked == 0);
        let index = match pick {
            Pick::Endpoint(index) => index,
            Pick::Fail(_) if wish.wait_for_ready => return Look::Wait,
            Pick::Fail(status) | Pick::Drop(status) => return Look::Fail(Unchosen::Failed(status::of_picker(status))),
            // `Pick` may grow; what this channel does not know yet, it cannot do now.
            _ => return Look::Wait,
        };
        let (Some(endpoint), Some(connections)) = (choice.endpoints.get(index), connections.get(index)) else {
            let message = format!("the picker chose endpoint {index} of {}", choice.endpoints.len());
            return Look::Fail(Unchosen::Failed(Status::internal(message)));
        };
        let picked = Picked(Some((Arc::clone(choice), index, mark)));
        if choice.endpoints.len() > 1 && wish.avoid.contains(endpoint.instance().address()) {
            found.failed.get_or_insert(picked);
        } else if let Some(slot) = connections.iter().find_map(Connection::try_reserve) {
            return Look::Chosen(slot, wish.ticket(picked, rules));
        } else if found.full_at.contains(&index) {
            // A picker that insists has its reasons, such as a hash; it is not asked for ever.
            break;
        } else {
            found.note_full(picked, index, connections);
        }
    }
    found.decide(connections, rules, wish)
}

/// What a picker has picked that will not do.
#[derive(Default)]
struct Found {
    /// Have no free place.
    full: Vec<Full>,
    full_at: Vec<usize>,
    /// Where the call has failed before: better than nothing.
    failed: Option<Picked>,
}

impl Found {
    fn note_full(&mut self, picked: Picked, index: usize, connections: &Connections) {
        self.full_at.push(index);
        self.full.push(Full { picked, connections: connections.iter().cloned().collect() });
    }

    fn decide(mut self, all: &[Connections], rules: Option<&Arc<Rules>>, wish: &Wish<'_>) -> Look {
        if self.full.is_empty()
            && let Some((picked, index)) = self.failed.take().and_then(Picked::with_index)
        {
            if let Some(slot) = all[index].iter().find_map(Connection::try_reserve) {
                return Look::Chosen(slot, wish.ticket(picked, rules));
            }
            self.note_full(picked, index, &all[index]);
        }
        if self.full.is_empty() { Look::Wait } else { Look::Full(self.full, rules.cloned()) }
    }
}
