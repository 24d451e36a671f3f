//! Whether a record fits into one request.

use callboard_core::Result;

use crate::error::invalid;

/// How many times the largest request, which replaces a node, contains the path.
const PATHS: usize = 5;
/// What a request has besides paths and data: its header, the access lists, and the lengths of all.
const REST: usize = 512;

/// Refuses data that ZooKeeper would not read. The server would close the connection, which everything in this client
/// shares, without an answer.
pub(crate) fn check_size(limit: usize, path: &str, data: &[u8]) -> Result<()> {
    let request = data.len() + PATHS * path.len() + REST;
    if request <= limit {
        return Ok(());
    }
    Err(invalid(format!(
        "{path} is too large: {} bytes, up to {request} as a request, of which ZooKeeper reads {limit} (jute.maxbuffer, \
         and max_request here)",
        data.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_too_large_is_refused_with_its_size_and_the_limit() {
        let (limit, path) = (10_000, "/callboard/a");
        let most = limit - PATHS * path.len() - REST;
        check_size(limit, path, &vec![0; most]).expect("it fits");
        let error = check_size(limit, path, &vec![0; most + 1]).expect_err("it does not").to_string();
        assert!(error.contains(&format!("{} bytes, up to 10001", most + 1)) && error.contains("10000"), "{error}");
    }
}
