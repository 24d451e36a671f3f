//! The service's config: a file beside the records, which nobody has to lock.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use callboard_core::{CONFIG_NAME, ErrorKind, Result, ServiceName};

use crate::content::{Content, MAX_LENGTH, open, read, unopened};
use crate::failure::{blocking, error, failed};
use crate::lock::Turn;
use crate::place::Place;
use crate::record::{self, put};

/// How long a config has to be gone to be removed: some editors move the file away before they write another.
const GONE: Duration = Duration::from_millis(20);

/// A config as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// What the file says. Nothing if that cannot be had, which no client takes for a config.
    pub(crate) stored: Arc<[u8]>,
    /// Why it cannot be had.
    pub(crate) unreadable: Option<String>,
}

/// Reads what is there now. What has not changed since `before` is the same allocation.
pub(crate) fn look(place: &Place, before: Option<&Config>) -> Result<Option<Config>> {
    look_twice(place, before, || sleep(GONE))
}

/// What was there and is gone is looked for once more, after a wait.
fn look_twice(place: &Place, before: Option<&Config>, wait: impl FnOnce()) -> Result<Option<Config>> {
    let mut found = content(place)?;
    if found.is_none() && before.is_some() {
        wait();
        found = content(place)?;
    }
    let config = found.map(|content| match content {
        Ok(stored) => Config { stored: stored.into(), unreadable: None },
        Err(why) => Config { stored: Arc::default(), unreadable: Some(why) },
    });
    Ok(if config.as_ref() == before { before.cloned() } else { config })
}

fn content(place: &Place) -> Result<Option<Content>> {
    let path = place.config();
    match open(&path) {
        Ok(file) => read(&file).map(Some).map_err(|answer| failed("read", &path, answer)),
        Err(answer) => unopened(&path, answer),
    }
}

/// Writes the config in place of what is there, or removes it.
pub(crate) async fn put_service_config(place: Place, service: &ServiceName, config: Option<&str>) -> Result<()> {
    let config = config.map(str::to_owned);
    let configured = blocking(move || match config {
        Some(config) => write(&place, &config),
        None => remove(&place),
    });
    configured.await.map_err(|error| error.for_service(service))
}

fn write(place: &Place, config: &str) -> Result<()> {
    if config.len() as u64 > MAX_LENGTH {
        let message = format!("a config of {} bytes is longer than the {MAX_LENGTH} that are read", config.len());
        return Err(error(ErrorKind::Invalid, message));
    }
    place.make()?;
    place.check()?;
    let _turn = Turn::take(&place.folder)?;
    put(place, &place.draft(CONFIG_NAME), &place.config(), config).map(drop)
}

fn remove(place: &Place) -> Result<()> {
    place.check()?;
    let Some(_turn) = Turn::to_remove(place)? else { return Ok(()) };
    let path = place.config();
    record::remove(&path).map_err(|answer| failed("remove", &path, answer))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_away_for_an_instant_is_not_removed() {
        let root = tempfile::TempDir::new().expect("a directory");
        let place = Place { root: root.path().to_owned(), folder: root.path().to_owned(), mode: 0o755 };
        let put = || fs::write(place.config(), "{}").expect("written");
        put();
        let before = look(&place, None).expect("read").expect("there");
        let away = || fs::remove_file(place.config()).expect("it was there");
        away();
        let found = look_twice(&place, Some(&before), put).expect("read").expect("back");
        assert!(Arc::ptr_eq(&before.stored, &found.stored), "nothing has changed");
        away();
        assert_eq!(look_twice(&place, None, put).expect("read"), None, "nobody waits for what was not there");
        assert_eq!(look(&place, Some(&before)).expect("read"), None, "gone");
    }
}
