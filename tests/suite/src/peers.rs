//! The peers of the tests that are written in Go: built once, before tests that need them run beside one another.

use std::io;
use std::path::Path;
use std::process::Command;

/// Builds all of `tests/grpc-go` to where the tests build each of them, so that they find it done.
pub(crate) fn build(target: &Path) -> io::Result<()> {
    let into = target.join("tmp");
    std::fs::create_dir_all(&into)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../grpc-go");
    let mut command = Command::new("go");
    command.current_dir(folder).args(["build", "-buildvcs=false", "-o"]).arg(into).arg("./...");
    let status = command.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the programs in tests/grpc-go cannot be built: {status}")));
    }
    Ok(())
}
