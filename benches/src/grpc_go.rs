//! The programs in Go.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Builds a package of `benches/go` where Go is installed. The error says why there is none.
pub(crate) fn build(package: &str, program: &Path) -> Result<Command, String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
    let built = Command::new("go")
        .current_dir(source)
        .args(["build", "-buildvcs=false", "-o"])
        .arg(program)
        .arg(package)
        .output();
    match built {
        Err(error) if error.kind() == ErrorKind::NotFound => Err("go is not installed".to_owned()),
        Err(error) => Err(format!("go cannot be started: {error}")),
        Ok(output) if output.status.success() => Ok(Command::new(program)),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("go build failed: {}", why.lines().last().unwrap_or("it does not say why")))
        }
    }
}
