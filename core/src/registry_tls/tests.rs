use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::Target;

const SECRET: &str = "aHVudGVyMg==";

fn certificate(text: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn key(text: &str) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn read(query: &str) -> Result<Option<RegistryTls>> {
    let target: Target = format!("x://h/s{query}").parse()?;
    let mut options = target.options();
    let tls = RegistryTls::from_options(&mut options)?;
    options.finish()?;
    Ok(tls)
}

/// Files of a CA, a client certificate and its key.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: TempDir::new().expect("a directory") };
        files.write("ca", &certificate("AAAA"));
        files.write("cert", &certificate("AAAA"));
        files.write("key", &key(SECRET));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// As a URL says it.
    fn tls(&self) -> RegistryTls {
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| self.path(name).display().to_string());
        read(&format!("?registry_ca={ca}&registry_cert={cert}&registry_key={key}"))
            .expect("good files")
            .expect("TLS is on")
    }
}

#[test]
fn a_url_says_whether_there_is_tls() {
    for (query, on) in [("", false), ("?registry_tls=false", false), ("?registry_tls", true)] {
        assert_eq!(read(query).expect(query).is_some(), on, "{query}");
    }
}

#[test]
fn half_a_setting_is_refused_with_its_key() {
    for (query, why) in [
        ("?registry_tls=perhaps", "\"registry_tls\""),
        ("?registry_tls=false&registry_ca=/c", "\"registry_tls\""),
        ("?registry_tls=false&registry_cert=/c&registry_key=/k", "beside \"registry_cert\""),
        ("?registry_ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("?registry_cert=/c", "\"registry_key\" beside it"),
        ("?registry_key=/k", "\"registry_cert\" beside it"),
        ("?ca=/c", "query key \"ca\": it is called \"registry_ca\""),
        ("?tls", "TLS to the registry is the key \"registry_tls\"; TLS to the service's servers"),
        ("?registry_tls&cert=/c&key=/k", "\"registry_cert\""),
        ("?key=/k", "\"registry_key\""),
        ("?registry_cert=/nowhere/c&registry_key=/nowhere/k", "a file that can be read"),
        ("?registry_ca=Cargo.toml", "a usable file (TLS: the CA has no certificate"),
    ] {
        let error = read(query).expect_err(query).to_string();
        assert!(error.contains(why), "{query}: {error}");
    }
}

#[test]
fn what_is_no_pem_is_refused_and_never_shown() {
    let tls = RegistryTls::with_ca(certificate("AAAA")).and_then(|tls| tls.identity(certificate("AAAA"), key(SECRET)));
    let tls = tls.expect("it looks like PEM");
    assert!(!format!("{tls:?}").contains(SECRET));
    assert!(tls.pems().identity().is_some_and(|(_, secret)| secret == key(SECRET).as_bytes()));
    let none = RegistryTls::with_system_roots;
    let cut = format!("-----BEGIN CERTIFICATE-----\n{SECRET}\n");
    for (error, why) in [
        (RegistryTls::with_ca(SECRET), "the CA has no certificate"),
        (RegistryTls::with_ca(cut), "the CA cannot be used"),
        (none().identity(SECRET, key(SECRET)), "the client certificate has no certificate"),
        (none().identity(certificate("AAAA"), SECRET), "private key has no private key"),
        (none().identity(certificate("AAAA"), certificate("AAAA")), "private key has no private key"),
    ] {
        let error = error.expect_err(why);
        assert!(error.to_string().contains(why) && !error.chain().contains(SECRET), "{error}");
    }
}

#[test]
fn the_bad_certificate_of_several_is_named() {
    let bad = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let error = RegistryTls::with_ca(format!("# a\n{}# b\n{bad}", certificate("AAAA"))).expect_err("the second is bad");
    assert_eq!(error.message(), "TLS: the CA: certificate 2 of 2, which begins in line 6, cannot be used");
    let pems = RegistryTls::with_ca(certificate("AAAA").repeat(2)).expect("PEM").pems();
    assert_eq!(pems.ca_certificates(), Some(&[vec![0; 3], vec![0; 3]][..]));
    assert!(pems.ca_certificate_unusable(1, "expired").message().contains("certificate 2 of 2"));
    assert_eq!(pems.identity_certificates(), None);
}

#[test]
fn a_wrong_file_fails_early_and_is_named() {
    let files = Files::new();
    files.write("empty", "");
    let (good, empty, nowhere) = (files.path("cert"), files.path("empty"), Path::new("/nowhere/x.pem"));
    let none = RegistryTls::with_system_roots;
    for (error, path) in [
        (RegistryTls::with_ca_file(nowhere), nowhere),
        (RegistryTls::with_ca_file(&empty), &empty),
        (none().identity_files(&empty, &empty), &empty),
        (none().identity_files(&good, nowhere), nowhere),
    ] {
        let error = error.expect_err("a bad file");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
    }
}

#[tokio::test]
async fn files_are_read_again_and_what_has_not_changed_is_the_same() {
    let files = Files::new();
    let tls = files.tls();
    let first = tls.pems();
    assert!(Arc::ptr_eq(&first, &tls.clone().read_again().await), "nothing has changed");
    files.write("cert", &certificate("BBBB"));
    assert!(Arc::ptr_eq(&first, &tls.pems()), "nobody has read it yet");
    let second = tls.read_again().await;
    let (chain, secret) = second.identity().expect("one is shown");
    assert_eq!((chain, secret), (certificate("BBBB").as_bytes(), key(SECRET).as_bytes()));
    assert!(Arc::ptr_eq(&second, &tls.pems()));
    files.write("ca", &certificate("CCCC"));
    assert_eq!(tls.read_again().await.ca(), Some(certificate("CCCC").as_bytes()));
}

#[tokio::test]
async fn what_cannot_be_read_leaves_what_was_read_before() {
    let files = Files::new();
    let tls = files.tls();
    let first = tls.pems();
    for half in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        files.write("cert", half);
        assert!(Arc::ptr_eq(&first, &tls.read_again().await), "{half:?}");
    }
    fs::remove_file(files.path("cert")).expect("it was there");
    assert!(Arc::ptr_eq(&first, &tls.read_again().await), "it is gone");
    files.write("cert", &certificate("BBBB"));
    let second = tls.read_again().await;
    assert_eq!(second.identity().map(|(chain, _)| chain), Some(certificate("BBBB").as_bytes()), "it is back");
}

/// A file on a file system that does not answer, which here is a pipe that nobody writes to.
#[tokio::test]
async fn a_file_that_does_not_answer_is_waited_for_within_a_bound() {
    let files = Files::new();
    let tls = files.tls();
    let first = tls.pems();
    fs::remove_file(files.path("ca")).expect("it was there");
    rustix::fs::mkfifoat(rustix::fs::CWD, files.path("ca"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .expect("a pipe");
    let (one, other) = tokio::join!(tls.read_again(), tls.read_again());
    assert!(Arc::ptr_eq(&first, &one) && Arc::ptr_eq(&first, &other), "what was read before is used");
    // Lets the thread go that reads.
    fs::write(files.path("ca"), certificate("CCCC")).expect("written");
}

#[test]
fn what_a_client_library_cannot_use_is_named_with_its_file() {
    let files = Files::new();
    let tls = files.tls();
    let said = tls.pems().identity_unusable("keys differ");
    for name in ["cert", "key"] {
        assert!(said.to_string().contains(&format!("{:?}", files.path(name))), "{said}");
    }
    assert!(said.chain().ends_with("keys differ") && said.kind() == ErrorKind::Invalid, "{}", said.chain());
    let given = RegistryTls::with_ca(certificate("AAAA")).expect("PEM").pems().ca_unusable("expired");
    assert_eq!(given.to_string(), "TLS: the CA cannot be used");
}
