//! Reading the settings from a dial URL.

use callboard_core::{Error, RegistryTls, Result, Target, TargetOptions};

use crate::builder::{EtcdBuilder, check_relist};
use crate::client::check_ttl;
use crate::error::in_backend;
use crate::registry::Etcd;

impl Etcd {
    /// Reads all settings from a dial URL, such as `etcd://user:password@h1,h2:2379/project/test?ttl=10s&prefix=/x`.
    /// The keys are those of the table above. Files that it names are read here, and again for each client that
    /// connects.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_etcd::Etcd;
    ///
    /// let target: Target = "etcd://10.0.0.1:2379,10.0.0.2:2379/project/test?ttl=10s".parse()?;
    /// let mut options = target.options();
    /// let etcd = Etcd::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the key, and why its value cannot be used.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        builder(target, options).map_err(in_backend)?.build()
    }
}

/// Reads every key that this backend knows.
fn builder(target: &Target, options: &mut TargetOptions<'_>) -> Result<EtcdBuilder> {
    let mut builder = EtcdBuilder::new(target.hosts().to_vec());
    if let Some(value) = options.duration("ttl")? {
        check_ttl(value).map_err(|why| options.invalid("ttl", why))?;
        builder = builder.ttl(value);
    }
    if let Some(value) = options.duration("relist")? {
        check_relist(value).map_err(|why| options.invalid("relist", why))?;
        builder = builder.relist(value);
    }
    if let Some(value) = options.text("prefix") {
        builder = builder.prefix(value);
    }
    if let Some(value) = RegistryTls::from_options(options)? {
        builder = builder.tls(value);
    }
    options.refuse("server_name", r#"it is called "registry_server_name""#)?;
    if let Some(value) = options.text("registry_server_name") {
        builder = builder.server_name(value);
    }
    match (target.user(), target.password()) {
        (None, None) => Ok(builder),
        (Some(user), Some(password)) => Ok(builder.user(user, password)),
        (Some(_), None) => Err(half(target, "a user needs a password: etcd://user:password@host")),
        (None, Some(_)) => Err(half(target, "a password needs a user: etcd://user:password@host")),
    }
}

fn half(target: &Target, why: &str) -> Error {
    Error::invalid(format!("URL {:?}: {why}", target.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::Etcd;
    use callboard_core::{Result, Target};

    fn read(url: &str) -> Result<Etcd> {
        let target: Target = url.parse()?;
        let mut options = target.options();
        let etcd = Etcd::from_target(&target, &mut options)?;
        options.finish()?;
        Ok(etcd)
    }

    #[test]
    fn a_url_says_what_the_builder_says() {
        let etcd =
            read("etcd://app:hunter2@h1:12379,h2,[::1]/project/test?ttl=20s&prefix=/x&relist=1m").expect("a good URL");
        let shown = format!("{etcd:?}");
        for part in ["http://h1:12379", "http://h2:2379", "http://[::1]:2379", "20s", "/x", "60s"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
        let shown = format!("{:?}", read("etcd://h/s?registry_tls").expect("a good URL"));
        assert!(shown.contains("https://h:2379"), "{shown}");
    }

    #[test]
    fn bad_urls_are_refused_with_the_key_and_the_reason() {
        for (url, why) in [
            ("etcd:///s", "no endpoint"),
            ("etcd://h/s?ttl=1s", "whole seconds from 3s to 10m"),
            ("etcd://h/s?ttl=soon", r#"query key "ttl""#),
            ("etcd://h/s?relist=10ms", "at least 1s"),
            ("etcd://h/s?prefix=/", "prefix"),
            ("etcd://h/s?registry_tls=maybe", "true or false"),
            ("etcd://h/s?registry_server_name=x", "server_name: without TLS"),
            ("etcd://h/s?server_name=x", r#""registry_server_name""#),
            ("etcd://h/s?registry_ca=/nowhere/ca.pem", "a file that can be read"),
            ("etcd://h/s?registry_tls&registry_cert=/nowhere/cert.pem", r#""registry_key" beside it"#),
            ("etcd://h/s?registry_tls&registry_key=/nowhere/key.pem", r#""registry_cert" beside it"#),
            ("etcd://app@h/s", "a user needs a password"),
            ("etcd://:hunter2@h/s", "a password needs a user"),
            ("etcd://app:hunter2@h/s?tll=3s", "unknown query key"),
            ("etcd://app:hunter2@h/s?ttl=1s", r#"query key "ttl""#),
        ] {
            let error = read(url).expect_err(url);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!format!("{error:?} {}", error.chain()).contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let file = std::env::temp_dir().join(format!("callboard-etcd-{}.pem", std::process::id()));
        std::fs::write(&file, "not a certificate").expect("a file");
        let error = read(&format!("etcd://h/s?registry_ca={}", file.display())).expect_err("no certificate");
        std::fs::remove_file(&file).expect("it was there");
        assert!(error.to_string().contains("the CA has no certificate in PEM form"), "{error}");
    }
}
