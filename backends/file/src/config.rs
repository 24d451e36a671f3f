//! The service's config: a file beside the records, without a lock.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use callboard_core::{CONFIG_NAME, ErrorKind, Result, ServiceName};

use crate::error::{blocking, error, failed};
use crate::record::{self, Content, DirectoryLock, Layout, MAX_LENGTH, open, put, read, unopened};

/// How long a config has to be gone to be removed: some editors move the file away before they write another.
const GONE: Duration = Duration::from_millis(20);

/// A config, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The content of the file. Empty if it cannot be read, which no client takes for a config.
    pub(crate) stored: Arc<[u8]>,
    /// Why it cannot be read.
    pub(crate) unreadable: Option<String>,
}

/// Reads the config. One that has not changed since `before` is the same allocation.
pub(crate) fn look(layout: &Layout, before: Option<&Config>) -> Result<Option<Config>> {
    look_twice(layout, before, || sleep(GONE))
}

/// A file that was there before and is gone is looked for once more, after a wait.
fn look_twice(layout: &Layout, before: Option<&Config>, wait: impl FnOnce()) -> Result<Option<Config>> {
    let mut found = content(layout)?;
    if found.is_none() && before.is_some() {
        wait();
        found = content(layout)?;
    }
    let config = found.map(|content| match content {
        Ok(stored) => Config { stored: stored.into(), unreadable: None },
        Err(why) => Config { stored: Arc::default(), unreadable: Some(why) },
    });
    Ok(if config.as_ref() == before { before.cloned() } else { config })
}

fn content(layout: &Layout) -> Result<Option<Content>> {
    let path = layout.config();
    match open(&path) {
        Ok(file) => read(&file).map(Some).map_err(|answer| failed("read", &path, answer)),
        Err(answer) => unopened(&path, answer),
    }
}

/// Replaces the config, or removes it.
pub(crate) async fn put_service_config(layout: Layout, service: &ServiceName, config: Option<&str>) -> Result<()> {
    let config = config.map(str::to_owned);
    let configured = blocking(move || match config {
        Some(config) => write(&layout, &config),
        None => remove(&layout),
    });
    configured.await.map_err(|error| error.for_service(service))
}

fn write(layout: &Layout, config: &str) -> Result<()> {
    if config.len() as u64 > MAX_LENGTH {
        let message = format!("a config of {} bytes is longer than the {MAX_LENGTH} that are read", config.len());
        return Err(error(ErrorKind::Invalid, message));
    }
    layout.make()?;
    layout.check()?;
    let _lock = DirectoryLock::take(&layout.folder)?;
    put(layout, &layout.draft(CONFIG_NAME), &layout.config(), config).map(drop)
}

fn remove(layout: &Layout) -> Result<()> {
    layout.check()?;
    let Some(_lock) = DirectoryLock::to_remove(layout)? else { return Ok(()) };
    let path = layout.config();
    record::remove(&path).map_err(|answer| failed("remove", &path, answer))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_away_for_an_instant_is_not_removed() {
        let root = tempfile::TempDir::new().expect("a directory");
        let layout = Layout { root: root.path().to_owned(), folder: root.path().to_owned(), mode: 0o755 };
        let put = || fs::write(layout.config(), "{}").expect("written");
        put();
        let before = look(&layout, None).expect("read").expect("there");
        let away = || fs::remove_file(layout.config()).expect("it was there");
        away();
        let found = look_twice(&layout, Some(&before), put).expect("read").expect("back");
        assert!(Arc::ptr_eq(&before.stored, &found.stored), "nothing has changed");
        away();
        assert_eq!(look_twice(&layout, None, put).expect("read"), None, "no wait for what was not there");
        assert_eq!(look(&layout, Some(&before)).expect("read"), None, "gone");
    }
}
