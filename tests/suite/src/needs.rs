//! What tests need that a machine may not have. A test says it in the reason for which it is ignored: "needs etcd: make test".

use std::path::Path;
use std::process::{Command, Stdio};

/// Something that a machine may not have.
#[derive(Debug)]
pub(crate) struct Need {
    /// Its name in the reasons of tests.
    name: &'static str,
    found: Found,
    /// What brings it, for the one who reads the sum.
    brought_by: &'static str,
}

/// How it is found out whether it is there.
#[derive(Debug)]
enum Found {
    /// A file in the directory that `make servers` fills.
    Server(&'static str),
    /// A program that says its version.
    Program(&'static str, &'static str),
    /// The right to make namespaces, and to set up what is in them.
    Namespaces,
}

const NEEDS: &[Need] = &[
    Need::server("etcd", "bin/etcd"),
    Need::server("ZooKeeper", "zookeeper/lib"),
    Need::server("Consul", "bin/consul"),
    Need::packaged("nginx", "bin/nginx"),
    Need::packaged("HAProxy", "bin/haproxy"),
    Need::packaged("nghttpx", "bin/nghttpx"),
    Need::server("Envoy", "bin/envoy"),
    Need { name: "Go", found: Found::Program("go", "version"), brought_by: "'make servers ALL=1' brings it" },
    Need { name: "namespaces", found: Found::Namespaces, brought_by: "root on Linux may make them" },
];

/// Without these, a run on CI has not shown what it is there to show.
const ON_CI: [&str; 3] = ["etcd", "ZooKeeper", "Consul"];

impl Need {
    const fn server(name: &'static str, path: &'static str) -> Self {
        Self { name, found: Found::Server(path), brought_by: "'make servers ALL=1' brings it" }
    }

    const fn packaged(name: &'static str, path: &'static str) -> Self {
        Self { name, found: Found::Server(path), brought_by: "its package and then 'make servers' bring it" }
    }

    fn is_there(&self, servers: &Path) -> bool {
        match self.found {
            Found::Server(path) => servers.join(path).exists(),
            Found::Program(program, argument) => succeeds(Command::new(program).arg(argument)),
            Found::Namespaces => {
                let set_up = "ip link set lo up && mount --bind /etc/hosts /etc/hosts";
                succeeds(Command::new("unshare").args(["--pid", "--mount", "--net", "--fork", "sh", "-c", set_up]))
            }
        }
    }

    /// Whether a test that is ignored for this reason needs it.
    pub(crate) fn is_in(&self, reason: &str) -> bool {
        reason.strip_prefix("needs ").is_some_and(|needs| needs.starts_with(self.name))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn brought_by(&self) -> &'static str {
        self.brought_by
    }

    pub(crate) fn is_required_on_ci(&self) -> bool {
        ON_CI.contains(&self.name)
    }
}

/// What this machine does not have. Servers are looked for in that directory.
pub(crate) fn missing(servers: &Path) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !need.is_there(servers)).collect()
}

fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
