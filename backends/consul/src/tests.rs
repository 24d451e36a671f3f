//! Settings, from wherever they come.

use std::time::Duration;

use callboard_core::{ErrorKind, Registry, RegistryTls, Resolver, Result, Target};
use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::{Consul, ConsulBuilder, ConsulGrpcCheck, url};

const SECRET: &str = "hunter2";

fn read(text: &str) -> Result<Consul> {
    let target: Target = text.parse()?;
    let mut options = target.options();
    let consul = Consul::from_target(&target, &mut options)?;
    options.finish()?;
    Ok(consul)
}

/// What a URL makes of the settings, as Debug shows it.
fn settings(text: &str) -> String {
    let target: Target = text.parse().unwrap();
    format!("{:?}", url::builder(&target, &mut target.options()).unwrap())
}

#[test]
fn a_dial_url_has_the_settings_of_the_builder() {
    let url = "consul://%2Frun%2Fconsul.sock/project/test?dc=dc2&tag=v2,blue&filter=Service.Port%3D%3D1&near=_agent&stale\
               &passing=false&wait=10s&config=false&config_prefix=ours/all&ns=team&partition=east&connections=50&ttl=5s&deregister_after=5m&check=ttl,grpc\
               &grpc_interval=2s&grpc_tls&grpc_service=hello.HelloService&token=hunter2";
    let check = ConsulGrpcCheck::default().every(Duration::from_secs(2)).tls(true).service("hello.HelloService");
    let built = Consul::builder()
        .address("unix:///run/consul.sock")
        .token(SECRET)
        .datacenter("dc2")
        .namespace("team")
        .partition("east")
        .connections(50)
        .tag("v2")
        .tag("blue")
        .filter("Service.Port==1")
        .near("_agent")
        .stale(true)
        .only_passing(false)
        .wait(Duration::from_secs(10))
        .config(false)
        .config_prefix("ours/all")
        .ttl(Duration::from_secs(5))
        .deregister_after(Duration::from_secs(300))
        .grpc_check(check);
    assert_eq!(settings(url), format!("{built:?}"));
    read(url).unwrap();
    assert_eq!(settings("consul:///s"), format!("{:?}", ConsulBuilder::default()));
    let grpc_only = ConsulBuilder::default().grpc_check(ConsulGrpcCheck::default()).ttl_check(false);
    assert_eq!(settings("consul:///s?check=grpc"), format!("{grpc_only:?}"));
}

#[test]
fn wrong_settings_are_refused_with_the_reason() {
    for (url, why) in [
        ("consul://a,b/s", "several hosts"),
        ("consul://u:p@h/s", "takes a token"),
        ("consul://h/s?ttl=500ms", "ttl 500ms: expected 1 s to 1 h"),
        ("consul://h/s?ttl=2h", "expected 1 s to 1 h"),
        ("consul://h/s?deregister_after=30s", "at least 1 min"),
        ("consul://h/s?wait=0s", "wait 0ns: expected"),
        ("consul://h/s?connections=39", "connections 39: expected 40 to 10,000"),
        ("consul://h/s?connections=10001", "expected 40 to 10,000"),
        ("consul://h/s?wait=11m", "expected 1 s to 10 min"),
        ("consul://h/s?config_prefix=/callboard", "config_prefix \"/callboard\": expected segments"),
        ("consul://h/s?config_prefix=", "config_prefix \"\": expected segments"),
        ("consul://h/s?config=no", "true or false"),
        ("consul://h/s?check=http", "\"http\" is not what is expected: ttl, grpc, or ttl,grpc"),
        ("consul://h/s?check=grpc&grpc_interval=1ms", "100 ms at least"),
        ("consul://h/s?tag=a,,b", "tag: it is empty"),
        ("consul://h/s?registry_ca=%2Fnowhere", "\"/nowhere\" is not what is expected: a file that can be read"),
        ("consul://h/s?registry_cert=x", "\"registry_key\" beside it"),
        ("consul://h/s?registry_key=x", "\"registry_cert\" beside it"),
        ("consul://%ff/s", "not UTF-8"),
        ("consul://h/s?datacenter=x", "unknown query key \"datacenter\""),
    ] {
        let error = read(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(why), "{url}: {error}");
    }
    let error = Consul::builder().ttl_check(false).build().unwrap_err();
    assert!(error.to_string().contains("neither TTL nor gRPC"), "{error}");
    let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let key = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}A\n-----END PRIVATE KEY-----\n");
    let tls = RegistryTls::with_ca(certificate).and_then(|tls| tls.identity(certificate, key)).unwrap();
    let error = Consul::builder().tls(tls.clone()).build().unwrap_err();
    assert!(error.to_string().contains("the CA cannot be used"), "{error}");
    let error = Consul::builder().address("h").tls(tls).build().unwrap_err();
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
}

/// Makes a backend in this environment, and returns its first request to the listener.
async fn request(
    make: impl FnOnce(ConsulBuilder, String) -> ConsulBuilder,
    environment: impl Fn(&str, &str) -> Option<String>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let consul = make(Consul::builder(), address.clone()).build_in(|name| environment(name, &address)).unwrap();
    let mut watch = consul.watch(&"s".parse().unwrap());
    let asked = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = socket.read(&mut request).await.unwrap();
        String::from_utf8_lossy(&request[..read]).to_lowercase()
    };
    tokio::select! {
        request = asked => request,
        said = futures_util::StreamExt::next(&mut watch) => panic!("{said:?}"),
    }
}

#[tokio::test]
async fn the_environment_is_used_for_what_is_not_set() {
    let environment = |name: &str, address: &str| match name {
        "CONSUL_HTTP_ADDR" => Some(format!("http://{address}")),
        "CONSUL_HTTP_TOKEN" => Some("from-outside".to_owned()),
        _ => None,
    };
    let asked = request(|builder, _| builder, environment).await;
    assert!(asked.contains("x-consul-token: from-outside"), "{asked}");
    let asked =
        request(|builder, address| builder.address(address).token("said"), |name, _| Some(format!("wrong {name}")))
            .await;
    assert!(asked.contains("x-consul-token: said") && !asked.contains("wrong"), "{asked}");
    let asked = request(ConsulBuilder::address, |_, _| Some(String::new())).await;
    assert!(!asked.contains("token"), "an empty variable is none: {asked}");
    for name in ["ns=", "partition="] {
        assert!(!asked.contains(name), "{asked}");
    }
}

#[tokio::test]
async fn a_secret_is_nowhere_to_be_seen() {
    let builder = Consul::builder().address("127.0.0.1:1").token(SECRET);
    let consul = builder.clone().build().unwrap();
    let (service, instance) = ("s".parse().unwrap(), callboard_core::Instance::at("h:1".parse().unwrap()).unwrap());
    let error = consul.register(&service, &instance).await.unwrap_err();
    let bad = builder.clone().token(format!("{SECRET}\n")).build().unwrap_err();
    let login = Consul::builder().address(format!("http://user:{SECRET}@h:1?pass={SECRET}"));
    let refused = login.clone().build().unwrap_err();
    let shown = format!("{builder:?} {consul:?} {error:?} {} {bad:?} {login:?} {refused:?}", error.chain());
    assert!(!shown.contains(SECRET) && shown.contains("***"), "{shown}");
}

proptest! {
    #[test]
    fn any_url_is_read_or_refused(host in "[a-z%2F.:\\[\\]]{0,12}", query in "(check|ttl|wait|tag|dc|filter|stale|grpc_tls)=[a-z0-9,%]{0,6}") {
        let _ = read(&format!("consul://{host}/s?{query}"));
    }
}
