//! The service's config, beside its instances.

use callboard_core::ServiceName;

use crate::company::{Company, SOON, instance, service, watcher};
use crate::presence::registered;
use crate::{Harness, Seen, Watcher};

const ONE: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;
const OTHER: &str = r#"{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}], "note":"täxt ☎"}"#;

async fn until(watcher: &Watcher, when: &str, config: Option<&[u8]>) -> Seen {
    watcher.until(SOON, when, |seen| seen.set.is_some() && seen.config.as_deref() == config).await
}

async fn configured(harness: &dyn Harness, service: &ServiceName, config: Option<&str>) {
    harness.registry().put_service_config(service, config).await.expect("a registry that is well takes a config");
}

/// A config that callboard has put is seen, as it is, by who watched before and by who watches afterwards; so are its
/// change and its removal. It is the service's own, and it is no instance.
pub async fn a_config_is_seen_changed_and_removed(harness: &dyn Harness) {
    let service = service("project/test");
    let early = watcher(harness, &service);
    until(&early, "before", None).await;
    let (deeper, _lease) = (crate::company::service("project/test/deep"), {
        let registry = harness.registry();
        registered(&*registry, &service, &instance("a", 1)).await
    });
    for config in [Some(ONE), Some(OTHER), None, Some(ONE), None] {
        configured(harness, &service, config).await;
        for watcher in [&early, &watcher(harness, &service)] {
            watcher.until_ids(SOON, "beside it", &["a"]).await;
            let seen = until(watcher, "configured", config.map(str::as_bytes)).await;
            assert_eq!((seen.ids(), seen.skipped), (vec!["a"], 0), "a config is no record");
        }
        until(&watcher(harness, &deeper), "of another service", None).await;
    }
    configured(harness, &service, None).await; // what is not there is no error
}

/// A config that a person has put with the registry's own tool is seen, also of a service that nobody serves.
pub async fn a_config_put_by_hand_is_seen(harness: &dyn Harness) {
    let service = service("project/test");
    harness.put_config(&service, Some(ONE.as_bytes())).await;
    let watcher = watcher(harness, &service);
    let seen = until(&watcher, "put by hand", Some(ONE.as_bytes())).await;
    assert_eq!((seen.ids().len(), seen.skipped), (0, 0), "{seen:?}");
    harness.put_config(&service, Some(OTHER.as_bytes())).await;
    until(&watcher, "changed by hand", Some(OTHER.as_bytes())).await;
    harness.put_config(&service, None).await;
    until(&watcher, "removed by hand", None).await;
}

/// A config that nobody can read is handed on as it is, and costs neither the set nor the watch.
pub async fn garbage_for_a_config_costs_nothing_else(harness: &dyn Harness) {
    let service = service("project/test");
    let registry = harness.registry();
    let _lease = registered(&*registry, &service, &instance("a", 1)).await;
    let watcher = watcher(harness, &service);
    watcher.until_ids(SOON, "before", &["a"]).await;
    for garbage in [&b"\xff\xfe{"[..], b"{\"loadBalancingConfig\":"] {
        harness.put_config(&service, Some(garbage)).await;
        let seen = until(&watcher, "garbage", Some(garbage)).await;
        assert_eq!((seen.ids(), seen.stale.is_none(), seen.emptied), (vec!["a"], true, 0), "{seen:?}");
    }
    let _other = registered(&*registry, &service, &instance("b", 2)).await;
    watcher.until_ids(SOON, "the set goes on", &["a", "b"]).await;
}

/// A config has no lease: it stays when its writer has gone, and through an outage of the registry: its death, if the
/// registry keeps its data, or else a silence.
pub async fn a_config_outlasts_its_writer_and_an_outage(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    configured(harness, &company.service, Some(ONE)).await;
    let watcher = watcher(harness, &company.service);
    until(&watcher, "before the outage", Some(ONE.as_bytes())).await;
    if harness.keeps_data() {
        harness.kill().await;
    } else {
        harness.pause().await;
    }
    company.watchers_are_cut_off().await;
    assert_eq!(watcher.seen().config.as_deref(), Some(ONE.as_bytes()), "kept while the registry cannot be heard");
    if harness.keeps_data() {
        harness.restart().await;
    } else {
        harness.resume().await;
    }
    let bounds = harness.bounds();
    company.is_right_within(bounds.expiry + bounds.heal, "after the outage").await;
    until(&crate::company::watcher(harness, &company.service), "after the outage", Some(ONE.as_bytes())).await;
    until(&watcher, "after the outage", Some(ONE.as_bytes())).await;
}
