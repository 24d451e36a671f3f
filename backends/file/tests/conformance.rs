//! The file backend against the properties that every backend has. The server is a directory here: it is down when it
//! was moved away.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not the harness")]
#![cfg(target_os = "linux")] // Watches are counted in /proc.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness};
use callboard_core::{Instance, Registry, Resolver, ServiceName, encode};
use callboard_file::FileRegistry;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

#[derive(Debug)]
struct OnDisk {
    temporary: TempDir,
    /// Records that were put there by hand: a record counts while somebody holds its lock.
    held: Mutex<Vec<File>>,
}

impl OnDisk {
    fn new() -> Self {
        let temporary = TempDir::new().unwrap();
        fs::create_dir(temporary.path().join("root")).unwrap();
        Self { temporary, held: Mutex::default() }
    }

    fn root(&self) -> PathBuf {
        self.temporary.path().join("root")
    }

    fn away(&self) -> PathBuf {
        self.temporary.path().join("away")
    }

    fn record(&self, service: &ServiceName, id: &str) -> PathBuf {
        self.root().join(service.as_str()).join(format!("@{id}.json"))
    }

    fn directory(&self) -> Arc<FileRegistry> {
        Arc::new(FileRegistry::builder(self.root()).build().unwrap())
    }
}

#[async_trait]
impl Harness for OnDisk {
    fn registry(&self) -> Arc<dyn Registry> {
        self.directory()
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        self.directory()
    }

    fn bounds(&self) -> Bounds {
        let second = Duration::from_secs(1);
        Bounds { expiry: 5 * second, heal: 10 * second, notice: 10 * second }
    }

    fn claims_expire(&self) -> bool {
        false
    }

    async fn kill(&self) {
        fs::rename(self.root(), self.away()).unwrap();
    }

    async fn restart(&self) {
        fs::rename(self.away(), self.root()).unwrap();
    }

    /// Nothing can make a directory fall silent, so it is as if it had been for longer than anybody waits.
    async fn pause(&self) {
        self.kill().await;
    }

    async fn resume(&self) {
        self.restart().await;
    }

    async fn wipe(&self) {
        self.kill().await;
        fs::remove_dir_all(self.away()).unwrap();
        fs::create_dir(self.root()).unwrap();
    }

    /// As `cp` does and most editors do: what is there is cut to nothing and written anew.
    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        let directory = self.root().join(service.as_str());
        fs::create_dir_all(&directory).unwrap();
        match config {
            Some(config) => fs::write(directory.join("@config"), config).unwrap(),
            None => fs::remove_file(directory.join("@config")).unwrap(),
        }
    }

    async fn put_garbage(&self, service: &ServiceName) {
        fs::write(self.record(service, "garbage"), b"\xff{}").unwrap();
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        fs::remove_file(self.record(service, instance.id())).unwrap();
    }

    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        fs::create_dir_all(self.root().join(service.as_str())).unwrap();
        let draft = self.temporary.path().join("draft");
        fs::write(&draft, encode(record)).unwrap();
        let file = File::open(&draft).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        fs::rename(&draft, self.record(service, id)).unwrap();
        self.held.lock().unwrap().push(file);
    }

    /// Puts another file in its place, which says the same, and which nobody has locked.
    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        let (record, copy) = (self.record(service, instance.id()), self.temporary.path().join("copy"));
        fs::copy(&record, &copy).unwrap();
        fs::rename(&copy, &record).unwrap();
    }

    /// How many watches of the system this process has on directories of this harness.
    async fn watches(&self) -> usize {
        let ours = directories(self.temporary.path());
        let descriptors = fs::read_dir("/proc/self/fdinfo").unwrap().map(|entry| entry.unwrap().path());
        // One that is closed meanwhile is none.
        let infos = descriptors.filter_map(|path| fs::read_to_string(path).ok());
        infos.map(|info| info.lines().filter_map(watched).filter(|inode| ours.contains(inode)).count()).sum()
    }
}

/// The inode in a line such as `inotify wd:1 ino:2e02 sdev:800013 mask:…`.
fn watched(line: &str) -> Option<u64> {
    let fields = line.strip_prefix("inotify ")?;
    let inode = fields.split(' ').find_map(|field| field.strip_prefix("ino:"))?;
    Some(u64::from_str_radix(inode, 16).unwrap())
}

/// The inodes of a directory and of all below it.
fn directories(at: &Path) -> BTreeSet<u64> {
    let mut found = BTreeSet::from([fs::metadata(at).unwrap().ino()]);
    let below = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
    below.filter(|path| path.is_dir()).for_each(|path| found.append(&mut directories(&path)));
    found
}

callboard_conformance::suite!(OnDisk::new());
