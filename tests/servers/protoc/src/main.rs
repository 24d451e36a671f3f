//! Copies the `protoc` of protoc-bin-vendored, and the `.proto` files that belong to it, into the directory that its
//! one argument names: `bin/protoc` and `include/`. The directory appears whole or not at all, also if several of these
//! programs run at once.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

fn main() -> Result<(), Box<dyn Error>> {
    let into = PathBuf::from(env::args_os().nth(1).ok_or("usage: callboard-protoc DIRECTORY")?);
    let unfinished = into.with_extension(format!("{}.tmp", process::id()));
    copy(&unfinished).map_err(|error| format!("{}: {error}", unfinished.display()))?;
    let renamed = fs::rename(&unfinished, &into);
    if renamed.is_err() {
        fs::remove_dir_all(&unfinished)?;
    }
    // Another may have been faster.
    if into.join("bin/protoc").exists() { Ok(()) } else { Ok(renamed?) }
}

fn copy(into: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(into.join("bin"))?;
    // With its permissions, so that it stays a program.
    fs::copy(protoc_bin_vendored::protoc_bin_path()?, into.join("bin/protoc"))?;
    Ok(copy_folder(&protoc_bin_vendored::include_path()?, &into.join("include"))?)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}
