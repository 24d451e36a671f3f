//! Choosing the endpoint, and taking a place on its connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use callboard_core::{Address, Call, Pick};
use tonic::Status;

use super::repetition::Repetition;
use super::status;
use super::ticket::Ticket;
use crate::control::{Choice, Published, Ready, Rules, Verdict};
use crate::lookaside::{Errand, Mark, Steered};
use crate::shared::Shared;
use crate::transport::{Connection, Slot};

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
}

impl<'a> Wish<'a> {
    pub(super) fn new(call: Call<'a>, wait_for_ready: bool, past: Option<&'a Repetition>) -> Self {
        Self { call, wait_for_ready, attempt: Repetition::number(past), avoid: Repetition::failed_at(past) }
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
    Full(Vec<Arc<Connection>>),
    Fail(Unchosen),
}

/// Asks the picker that there is. None if the call has to wait: for a picker, or for a place.
pub(super) fn choose_now(shared: &Shared, wish: Wish<'_>) -> Option<Chosen> {
    match look(&shared.published(), &wish) {
        Look::Chosen(slot, ticket) => Some(Ok((slot, ticket))),
        Look::Fail(why) => Some(Err(why)),
        Look::Wait | Look::Full(_) => None,
    }
}

/// Waits for a picker, asks it, and waits for a place where it says. The caller bounds the time.
pub(super) async fn choose(shared: &Shared, wish: Wish<'_>) -> Chosen {
    let mut waited_at: Vec<Arc<Connection>> = Vec::new();
    loop {
        let changed = shared.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        // Not in the `match`: what is published is not to be held while waiting.
        let looked = look(&shared.published(), &wish);
        // Whoever was woken for a place and takes another one wakes the next.
        for connection in waited_at.drain(..) {
            if !matches!(&looked, Look::Chosen(slot, _) if slot.is_on(&connection)) {
                connection.pass_on();
            }
        }
        match looked {
            Look::Chosen(slot, ticket) => return Ok((slot, ticket)),
            Look::Fail(why) => return Err(why),
            Look::Wait => changed.await,
            Look::Full(full) => {
                shared.note_crowd();
                tokio::select! {
                    () = changed => {}
                    () = a_place(&full) => {}
                }
                waited_at = full;
            }
        }
    }
}

/// Resolves when one of these connections may have a free place.
async fn a_place(full: &[Arc<Connection>]) {
    // One that ends has no more places; the control task hears of that too and publishes without it.
    let open = full.iter().filter(|connection| connection.is_open());
    let mut waits: Vec<_> = open.map(|connection| (connection, connection.freed())).collect();
    waits.iter_mut().for_each(|(_, freed)| freed.enable());
    if waits.iter().any(|(connection, _)| connection.has_place()) {
        return;
    }
    poll_fn(|cx| match waits.iter_mut().any(|(_, freed)| freed.poll(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

fn look(published: &Published, wish: &Wish<'_>) -> Look {
    match &published.verdict {
        Verdict::Pick(ready) => ask(ready, published.rules.as_ref(), wish),
        Verdict::Wait => Look::Wait,
        Verdict::Fail if wish.wait_for_ready => Look::Wait,
        Verdict::Fail => {
            let status = Status::unavailable(published.summary.to_string());
            Look::Fail(match &published.rules {
                None => Unchosen::Failed(status),
                Some(rules) => Unchosen::Down(Box::new(Down { status, rules: Arc::clone(rules) })),
            })
        }
        Verdict::Ended => {
            let why = "the channel's task has ended, by a panic of its balancer or with its runtime";
            Look::Fail(Unchosen::Failed(Status::unavailable(format!("{}; {why}", published.summary))))
        }
    }
}

/// What the picker says or, if a balancer's list decides, that.
fn pick(choice: &Choice, call: &Call<'_>, first: bool) -> (Pick, Option<Arc<Mark>>) {
    let Some(steering) = &choice.steering else { return (choice.picker.pick(call), None) };
    match steering.pick(first) {
        Steered::To(index, mark) => (Pick::Endpoint(index), Some(mark)),
        Steered::Drop(status) => (Pick::Drop(status), None),
        Steered::Wait => (Pick::Wait, None),
    }
}

fn ask(ready: &Ready, rules: Option<&Arc<Rules>>, wish: &Wish<'_>) -> Look {
    let Ready { choice, connections: all } = ready;
    let mut full: Vec<Arc<Connection>> = Vec::new();
    let mut insisted_on = None;
    for asked in 0..=OTHER_CHOICES {
        let (picked, mark) = pick(choice, &wish.call, asked == 0);
        let index = match picked {
            Pick::Endpoint(index) => index,
            Pick::Fail(_) if wish.wait_for_ready => return Look::Wait,
            Pick::Fail(status) | Pick::Drop(status) => return Look::Fail(Unchosen::Failed(status::of_picker(status))),
            // `Pick` may grow; what this channel does not know yet, it cannot do now.
            _ => return Look::Wait,
        };
        let (Some(endpoint), Some(connections)) = (choice.endpoints.get(index), all.get(index)) else {
            let message = format!("the picker chose endpoint {index} of {}", choice.endpoints.len());
            return Look::Fail(Unchosen::Failed(Status::internal(message)));
        };
        let refused = wish.avoid.contains(&endpoint.instance().address);
        if refused && asked < OTHER_CHOICES && choice.endpoints.len() > 1 {
            continue;
        }
        if let Some(slot) = connections.iter().find_map(Connection::try_reserve) {
            let errand = mark.map(Errand::new);
            return Look::Chosen(slot, Ticket::new(Arc::clone(choice), index, wish.attempt, rules.cloned(), errand));
        }
        // A picker that insists has its reasons, such as a hash; do not ask it for ever.
        if insisted_on.replace(index) == Some(index) {
            break;
        }
        for connection in connections.iter() {
            if !full.iter().any(|known| Arc::ptr_eq(known, connection)) {
                full.push(Arc::clone(connection));
            }
        }
    }
    if full.is_empty() { Look::Wait } else { Look::Full(full) }
}
