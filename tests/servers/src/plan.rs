//! What is settled about a cluster before a server of it is started.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use callboard_raw::Port;
use tempfile::TempDir;

use crate::links::Links;
use crate::owner;
use crate::server::Server;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) server: Arc<dyn Server>,
    pub(crate) nodes: usize,
    pub(crate) args: Vec<String>,
    pub(crate) config: Vec<String>,
    pub(crate) token: Option<String>,
}

/// Where everything is. It stays so over restarts.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) places: Vec<Place>,
    /// None if the members reach each other directly.
    pub(crate) links: Option<Links>,
    _directory: TempDir,
}

/// Where a node is.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    ports: Vec<Port>,
}

impl Plan {
    pub(crate) fn new(settings: Settings) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("callboard-").tempdir()?;
        let place = |number: usize| {
            let ports = (0..settings.server.ports()).map(|_| Port::free()).collect::<io::Result<_>>()?;
            let directory = directory.path().join(format!("{}-{number}", settings.server.name()));
            std::fs::create_dir(&directory)?;
            Ok(Place { directory, ports })
        };
        let places: Vec<_> = (1..=settings.nodes).map(place).collect::<io::Result<_>>()?;
        let links = match settings.server.linked() {
            Some(port) if places.len() > 1 && owner::is_told() => {
                Some(Links::new(&places.iter().map(|place| place.at(port)).collect::<Vec<_>>())?)
            }
            _ => None,
        };
        Ok(Self { settings, places, links, _directory: directory })
    }
}

impl Place {
    /// For clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at(0)
    }

    /// The address with one of the node's ports, in the order of its server's.
    pub(crate) fn at(&self, port: usize) -> SocketAddr {
        self.ports[port].address()
    }

    pub(crate) fn port(&self, port: usize) -> u16 {
        self.ports[port].number()
    }

    /// All that is the node's.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What a wipe removes.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What the server is told by a file. Some go by how its name ends.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("config.yaml")
    }

    /// What the server has said.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

/// Writes a file which somebody may read at any moment.
pub(crate) fn write_whole(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(unfinished, path)
}
