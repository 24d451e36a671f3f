//! Programs in Go, of `tests/grpc-go`.

use std::path::{Path, PathBuf};
use std::process::Command;

use callboard_servers::{Program, ProgramSetup};

/// Builds one, and prepares it.
///
/// # Panics
/// If there is no Go.
pub(crate) async fn program(name: &'static str) -> ProgramSetup {
    Program::at(tokio::task::spawn_blocking(|| build(name)).await.unwrap())
}

fn build(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = tests.join("../target/tmp").join(name);
    let mut command = Command::new("go");
    command.current_dir(tests.join("grpc-go")).args(["build", "-buildvcs=false", "-o"]).arg(&program);
    let built = command.arg(format!("./{name}")).output().expect("this takes Go");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}
