//! The live table: rewritten in place on a terminal, one line each second otherwise.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard::{Channel, Endpoint};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::callers::{CALLERS, Calls, Ledger};

/// Rates and shares are those of the last second.
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) struct Table {
    channel: Channel,
    ledger: Arc<Ledger>,
    started: Instant,
    in_place: bool,
    screen: Mutex<Screen>,
}

#[derive(Default)]
struct Screen {
    /// The number of lines that the next table overwrites.
    drawn: usize,
    /// Every endpoint seen so far, in order, and whether it is registered.
    endpoints: Vec<(Endpoint, bool)>,
    /// The answered calls at several points in the window.
    past: VecDeque<(Instant, Calls)>,
    most_in_flight: u64,
}

/// One server's line.
struct Row {
    id: String,
    weight: String,
    state: String,
    share: f64,
    rate: f64,
    calls: u64,
    in_flight: u64,
}

impl Table {
    pub(crate) fn new(channel: Channel, ledger: Arc<Ledger>) -> Self {
        let in_place = stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self { channel, ledger, started: Instant::now(), in_place, screen: Mutex::default() }
    }

    /// Draws the table again and again, until the task is aborted.
    pub(crate) fn start(table: &Arc<Self>) -> JoinHandle<()> {
        let table = Arc::clone(table);
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(100));
            for tick in 0_u64.. {
                ticks.tick().await;
                table.draw(tick);
            }
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The most calls in flight seen on one connection.
    pub(crate) fn most_in_flight(&self) -> u64 {
        self.screen().most_in_flight
    }

    /// Prints a line that stays.
    pub(crate) fn say(&self, line: &str) {
        let mut screen = self.screen();
        let mut text = screen.back();
        let _ = writeln!(text, "{:5.1} s  {line}\x1b[K", self.elapsed().as_secs_f64());
        self.write(&text);
        screen.drawn = 0;
        if self.in_place && !screen.past.is_empty() {
            self.write(&self.in_place(&mut screen));
        }
    }

    fn draw(&self, tick: u64) {
        let mut screen = self.screen();
        screen.note(&self.channel, self.ledger.answered());
        if self.in_place {
            self.write(&self.in_place(&mut screen));
        } else if tick > 0 && tick.is_multiple_of(10) {
            self.write(&self.plain(&screen));
        }
    }

    fn in_place(&self, screen: &mut Screen) -> String {
        let mut text = screen.back();
        let rows = screen.rows();
        let _ = writeln!(
            text,
            "\x1b[K\n  server  weight  state                share   calls/s      calls  in flight\x1b[K"
        );
        for Row { id, weight, state, share, rate, calls, in_flight } in &rows {
            let calls = grouped(*calls);
            let line =
                format!("{id:<6}  {weight:>6}  {state:<17}  {share:5.1} %  {rate:8.0}  {calls:>9}  {in_flight:>9}");
            let _ = writeln!(text, "  {line}\x1b[K");
        }
        let rate: f64 = rows.iter().map(|row| row.rate).sum();
        let seconds = self.elapsed().as_secs_f64();
        let _ = writeln!(text, "  {CALLERS} callers, one channel, {rate:.0} calls/s, {seconds:.1} s\x1b[K\x1b[J");
        screen.drawn = rows.len() + 3;
        text
    }

    fn plain(&self, screen: &Screen) -> String {
        let rows = screen.rows();
        let row = |row: &Row| format!("{} {} {:.1} % {:.0}/s", row.id, row.state, row.share, row.rate);
        let rows: Vec<_> = rows.iter().map(row).collect();
        format!("{:5.1} s    {}\n", self.elapsed().as_secs_f64(), rows.join(" | "))
    }

    /// Prints a table. A reader that has gone is no reason to stop measuring.
    fn write(&self, text: &str) {
        let text = if self.in_place { text.to_owned() } else { text.replace("\x1b[K", "") };
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Screen {
    /// Moves to where the last table begins.
    fn back(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        }
    }

    fn note(&mut self, channel: &Channel, answered: Calls) {
        self.endpoints.iter_mut().for_each(|(_, on_board)| *on_board = false);
        for endpoint in channel.endpoints().into_iter().map(|status| status.endpoint) {
            self.most_in_flight = self.most_in_flight.max(endpoint.in_flight());
            match self.endpoints.iter_mut().find(|(known, _)| known.instance().id() == endpoint.instance().id()) {
                Some(known) => *known = (endpoint, true),
                None => self.endpoints.push((endpoint, true)),
            }
        }
        let now = Instant::now();
        self.past.push_back((now, answered));
        while self.past.len() > 2 && now - self.past[1].0 >= WINDOW {
            self.past.pop_front();
        }
    }

    fn rows(&self) -> Vec<Row> {
        let (Some((then, before)), Some((now, after))) = (self.past.front(), self.past.back()) else {
            return Vec::new();
        };
        let of = |calls: &Calls, id: &str| calls.get(id).copied().unwrap_or_default();
        let all = after.values().sum::<u64>() - before.values().sum::<u64>();
        let seconds = (*now - *then).as_secs_f64();
        let row = |(endpoint, on_board): &(Endpoint, bool)| {
            let id = endpoint.instance().id();
            let calls = of(after, id);
            let fresh = (calls - of(before, id)) as f64;
            Row {
                id: id.to_owned(),
                weight: if *on_board { endpoint.weight().to_string() } else { "-".to_owned() },
                state: if *on_board { endpoint.state().to_string() } else { "deregistered".to_owned() },
                share: if all > 0 { 100.0 * fresh / all as f64 } else { 0.0 },
                rate: if seconds > 0.0 { fresh / seconds } else { 0.0 },
                calls,
                in_flight: endpoint.in_flight(),
            }
        };
        self.endpoints.iter().map(row).collect()
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
