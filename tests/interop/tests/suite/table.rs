//! What the cases did, as a table.

use std::any::Any;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// The bound of one case; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a case has found. A case that fails panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// What could be tried has passed; what could not, and why.
    InPart(&'static str),
    /// It could not be tried at all, and why.
    LeftOut(&'static str),
    Failed(String),
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

/// Runs a case to its end, however that is.
pub async fn verdict<R>(case: impl Future<Output = R> + Send + 'static) -> Verdict
where
    R: Into<Verdict> + Send + 'static,
{
    match tokio::spawn(tokio::time::timeout(PATIENCE, case)).await {
        Ok(Ok(found)) => found.into(),
        Ok(Err(_)) => Verdict::Failed(format!("not done within {PATIENCE:?}")),
        Err(error) => Verdict::Failed(message(&*error.into_panic())),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// A row for each case, a column for each way in which it was run.
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(&'static str, Vec<Verdict>)>,
    notes: Vec<String>,
}

impl Table {
    pub fn new(title: impl Into<String>, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds what a case found in the next of the columns.
    pub fn add(&mut self, case: &'static str, found: Verdict) {
        match self.rows.iter_mut().find(|(name, _)| *name == case) {
            Some((_, row)) => row.push(found),
            None => self.rows.push((case, vec![found])),
        }
    }

    /// Adds a line below it.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Prints the table.
    ///
    /// # Panics
    /// If a case has failed.
    #[track_caller]
    pub fn settle(self) {
        let (text, failed) = (self.to_string(), self.failed());
        // Written past the test harness, which would keep it to itself where nothing fails. A failure to print is none.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        assert!(failed == 0, "{failed} failed; the table of {:?} says which, and why", self.title);
    }

    fn failed(&self) -> usize {
        self.rows.iter().flat_map(|(_, row)| row).filter(|found| matches!(found, Verdict::Failed(_))).count()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{:<30}", self.title)?;
        let width = self.columns.iter().map(String::len).max().unwrap_or_default().max(10) + 2;
        for column in &self.columns {
            write!(f, "{column:<width$}")?;
        }
        let mut notes: String = self.notes.iter().map(|line| format!("  {line}\n")).collect();
        for (case, row) in &self.rows {
            write!(f, "\n  {case:<28}")?;
            for (column, found) in self.columns.iter().zip(row) {
                let (word, why) = match found {
                    Verdict::Passed => ("passed", None),
                    Verdict::InPart(why) => ("in part", Some(*why)),
                    Verdict::LeftOut(why) => ("left out", Some(*why)),
                    Verdict::Failed(why) => ("FAILED", Some(why.as_str())),
                };
                write!(f, "{word:<width$}")?;
                if let Some(why) = why {
                    note(&mut notes, case, column, word, why)?;
                }
            }
        }
        writeln!(f, "\n{notes}")
    }
}

/// Says why, once for the columns in which the same is so.
fn note(notes: &mut String, case: &str, column: &str, word: &str, why: &str) -> std::fmt::Result {
    let line = match word {
        "FAILED" => format!("  {case}, {column}: {why}"),
        _ => format!("  {case}, {word}: {why}"),
    };
    if !notes.lines().any(|other| other == line) {
        writeln!(notes, "{line}")?;
    }
    Ok(())
}
