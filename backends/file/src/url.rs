//! The same settings in a dial URL.

use std::path::PathBuf;

use callboard_core::{Error, Result, Target, TargetOptions};

use crate::builder::{self, FileRegistryBuilder};
use crate::failure::BACKEND;

/// Reads the settings that a URL has. Every key is asked for, whether it is there or not.
pub(crate) fn builder(target: &Target, options: &mut TargetOptions<'_>) -> Result<FileRegistryBuilder> {
    if !target.hosts().is_empty() || target.user().is_some() || target.password().is_some() {
        let why = "a directory is on this machine: write file:///path/of/service, without user and host";
        return Err(Error::invalid(format!("URL {:?}: {why}", target.to_string())).in_backend(BACKEND));
    }
    let root = PathBuf::from(options.text("root").unwrap_or("/"));
    builder::absolute(&root).map_err(|why| options.invalid("root", why))?;
    let mut builder = FileRegistryBuilder::new(root);
    if let Some(text) = options.text("mode") {
        let octal = u32::from_str_radix(text, 8).ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let mode = octal.ok_or("an octal number such as 0755").and_then(|mode| builder::mode(mode).map(|()| mode));
        builder = builder.mode(mode.map_err(|why| options.invalid("mode", why))?);
    }
    if let Some(poll) = options.duration("poll")? {
        builder::poll(poll).map_err(|why| options.invalid("poll", why))?;
        builder = builder.poll(poll);
    }
    Ok(builder)
}
