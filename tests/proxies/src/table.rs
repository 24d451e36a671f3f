//! The table that the tests print.

use std::io::{Write, stdout};
use std::sync::Once;

use crate::client::Client;
use crate::tally::Tally;

/// How much of a failure is shown.
const SHOWN: usize = 160;

/// Prints a row, and under it each failure. It goes past the test harness, which would keep it for itself.
pub(crate) fn row(client: Client, proxy: &str, case: &str, endpoints: usize, tally: &Tally) {
    static HEAD: Once = Once::new();
    HEAD.call_once(|| {
        let names =
            ["client", "proxy", "case", "endpoints", "calls", "streams", "failed", "connections", "slowest call"];
        print(&format!("\n{}\n", line(&names.map(str::to_owned))));
    });
    let figures = [
        format!("{client:?}").to_lowercase(),
        proxy.to_owned(),
        case.to_owned(),
        endpoints.to_string(),
        tally.unary.to_string(),
        tally.streams.to_string(),
        tally.failed().to_string(),
        tally.connections.map_or_else(|| "-".to_owned(), |made| made.to_string()),
        format!("{} ms", tally.slowest.as_millis()),
    ];
    let failures = tally.failures.iter().map(|(failure, count)| {
        let shown: String = failure.chars().take(SHOWN).collect();
        format!("    {count} x {shown}\n")
    });
    print(&format!("{}\n{}", line(&figures), failures.collect::<String>()));
}

fn line(fields: &[String; 9]) -> String {
    let [client, proxy, case, endpoints, unary, streams, failed, connections, slowest] = fields;
    format!(
        "{client:<9} | {proxy:<7} | {case:<28} | {endpoints:>9} | {unary:>7} | {streams:>7} | {failed:>6} | \
         {connections:>11} | {slowest:>12}"
    )
}

fn print(text: &str) {
    // There may be nobody who reads.
    let _ = stdout().write_all(text.as_bytes());
}
