//! What lies between a process and the registry.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

/// How late something can be, in milliseconds.
const LATEST: u64 = 5_000;

/// How it is between one process and the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing is lost, and everything comes within 20 ms.
    Calm,
    /// Questions and answers are lost, late by up to 5 s, or come twice.
    Rough,
    /// Nothing comes through, and nobody says so.
    Silent,
    /// Each question is refused at once.
    Refused,
}

impl Weather {
    pub fn any_bad(random: &mut fastrand::Rng) -> Self {
        [Self::Rough, Self::Rough, Self::Silent, Self::Refused][random.usize(..4)]
    }
}

/// What becomes of one question.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// When it arrives, if it does. A second time too?
    pub arrives: Option<Duration>,
    pub again: Option<Duration>,
    /// When the answer arrives after that, if it does.
    pub answer: Option<Duration>,
}

impl Passage {
    /// # Errors
    /// If it is refused.
    pub fn draw(weather: Weather, random: &mut fastrand::Rng) -> Result<Self> {
        let mut short = |most| Duration::from_millis(random.u64(1..most));
        match weather {
            Weather::Calm => Ok(Self { arrives: Some(short(20)), again: None, answer: Some(short(20)) }),
            Weather::Silent => Ok(Self { arrives: None, again: None, answer: None }),
            Weather::Refused => Err(Error::new(ErrorKind::Unavailable, "refused")),
            Weather::Rough => {
                let (quick, slow, answer, again) = (short(300), short(LATEST), short(300), short(LATEST));
                let arrives = if random.u8(..10) == 0 { slow } else { quick };
                Ok(Self {
                    arrives: (random.u8(..10) > 0).then_some(arrives),
                    again: (random.u8(..10) == 0).then_some(again),
                    answer: (random.u8(..10) > 0).then_some(answer),
                })
            }
        }
    }
}

/// Waits that long, or for ever.
pub async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// How long it has been so.
#[derive(Clone, Copy, Debug)]
pub struct Since<T> {
    pub now: T,
    pub since: Instant,
}

impl<T: PartialEq> Since<T> {
    pub fn new(now: T) -> Self {
        Self { now, since: Instant::now() }
    }

    pub fn set(&mut self, now: T) {
        if self.now != now {
            *self = Self::new(now);
        }
    }
}
