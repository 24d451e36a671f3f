//! What a person does to the registry by hand.

use callboard_core::ErrorKind;

use crate::Harness;
use crate::company::{Company, SOON, instance, service};
use crate::presence::{lost, registered};

/// An entry that is deleted by hand is made again, by its owner, at once.
pub async fn an_entry_deleted_by_hand_comes_back(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    let first = company.first();
    company.comes_back_after("deleted by hand", harness.delete(&company.service, &first)).await;
}

/// A lease that is ended by hand is replaced by a new one.
pub async fn a_lease_ended_by_hand_is_made_again(harness: &dyn Harness) {
    let company = Company::together(harness).await;
    let first = company.first();
    company.comes_back_after("its lease ended by hand", harness.end_lease(&company.service, &first)).await;
}

/// A lease whose entry is deleted says that it is lost, without waiting for its time to live to pass, and leaves
/// nothing behind when it is revoked all the same.
pub async fn a_lost_entry_is_noticed_by_its_lease(harness: &dyn Harness) {
    let (service, registry) = (service("project/test"), harness.registry());
    let mut lease = registered(&*registry, &service, &instance("a", 1)).await;
    harness.delete(&service, &instance("a", 1)).await;
    let error = lost(lease.as_mut(), SOON).await;
    assert_eq!(error.kind(), ErrorKind::Lost, "{error:?}");
    lease.revoke().await.expect("what is gone already is no error");
}
