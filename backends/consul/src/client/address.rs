//! Where the agent is.

use std::path::PathBuf;

use callboard_core::{Error, Result};
use reqwest::Url;

/// Where the agent's HTTP API is.
#[derive(Clone, Debug)]
pub(crate) enum AgentAddress {
    Url(Url),
    Socket(PathBuf),
}

impl AgentAddress {
    /// Reads `host`, `host:port`, `http://host:port`, `https://host:port` or `unix:///path`.
    ///
    /// # Errors
    /// `Invalid`, with the text, in which no login has been accepted.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(format!("agent's address: {why} (expected host:port, https://host:port or unix:///path)"))
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Socket(path.into()))
            } else {
                Err(invalid("the path is not absolute"))
            };
        }
        if text.contains('@') {
            return Err(invalid("it has a login; the token is given apart from it"));
        }
        let (text, tls) = match text.split_once("://") {
            Some(("https", rest)) => (rest, true),
            Some(("http", rest)) if !tls => (rest, false),
            Some(("http", _)) => return Err(invalid("it begins with http:// and TLS is asked for")),
            Some(_) => return Err(invalid("it begins with something other than http://, https:// and unix://")),
            None => (text, tls),
        };
        let scheme = if tls { "https" } else { "http" };
        let mut url = Url::parse(&format!("{scheme}://{text}")).map_err(|error| invalid(&error.to_string()))?;
        // A port that is the scheme's own is not kept by the URL, and is not Consul's.
        let bare = text.split('/').next().unwrap_or(text);
        let named =
            bare.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        if !named {
            let port = if tls { 8501 } else { 8500 };
            url.set_port(Some(port)).map_err(|()| invalid("it has no host"))?;
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query"));
        }
        Ok(Self::Url(url))
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Url(url) if url.scheme() == "https")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_consuls_own_ports() {
        for (text, tls, url) in [
            ("127.0.0.1:8500", false, "http://127.0.0.1:8500/"),
            ("consul.internal", false, "http://consul.internal:8500/"),
            ("consul.internal", true, "https://consul.internal:8501/"),
            ("consul.internal:443", true, "https://consul.internal/"),
            ("https://consul.internal", false, "https://consul.internal:8501/"),
            ("http://[::1]:80", false, "http://[::1]/"),
            ("[::1]", false, "http://[::1]:8500/"),
            ("https://host:1/behind/a/proxy", false, "https://host:1/behind/a/proxy"),
        ] {
            let AgentAddress::Url(read) = AgentAddress::parse(text, tls).unwrap() else {
                panic!("{text} is no socket")
            };
            assert_eq!(read.as_str(), url, "{text}");
        }
        assert!(
            matches!(AgentAddress::parse("unix:///run/consul.sock", false), Ok(AgentAddress::Socket(path)) if path.ends_with("consul.sock"))
        );
    }

    #[test]
    fn a_bad_address_is_refused_and_no_login_is_quoted() {
        for (text, tls, why) in [
            ("", false, "host"),
            ("ftp://a", false, "begins with something other"),
            ("http://a", true, "TLS is asked for"),
            ("unix://relative", false, "not absolute"),
            ("a:x", false, "port"),
            ("https://hunter2@a", false, "a login"),
            ("a?dc=b", false, "a query"),
        ] {
            let error = AgentAddress::parse(text, tls).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
