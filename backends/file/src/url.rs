//! The settings in a dial URL.

use std::path::PathBuf;

use callboard_core::{Error, Result, Target, TargetOptions};

use crate::builder::{self, FileRegistryBuilder};
use crate::error::BACKEND;
use crate::registry::FileRegistry;

impl FileRegistry {
    /// Makes one from a dial URL: `file:///path/of/service[?key=value&...]`. The crate's page lists the keys. The
    /// service is not looked at: it is the URL's whole path, below the root `/`, or below the one that the key `root`
    /// names.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_file::FileRegistry;
    ///
    /// let target: Target = "file:///run/callboard/project/test?mode=0750".parse()?;
    /// let mut options = target.options();
    /// let directory = FileRegistry::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// assert_eq!(target.service()?.as_str(), "run/callboard/project/test");
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the key, and why its value cannot be used; or if the
    /// URL names a host or a user.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        builder(target, options)?.build()
    }
}

/// Reads the settings that a URL has. Every key is asked for, whether it is there or not.
fn builder(target: &Target, options: &mut TargetOptions<'_>) -> Result<FileRegistryBuilder> {
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
