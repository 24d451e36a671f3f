//! An etcd that asks for a user and a password.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_conformance::Rights;
use callboard_core::{Resolver, ServiceName};
use callboard_servers::{Cluster, Setup};
use etcd_client::{Client, ConnectOptions, Permission, PermissionType, RoleRevokePermissionOptions};

use super::{Servers, TTL, key};

pub(crate) const PASSWORD: &str = "hunter2-is-secret";
/// May do everything under `/callboard/`.
pub(crate) const APP: &str = "app";
/// May read everything under `/callboard/`.
pub(crate) const READER: &str = "reader";

impl Servers {
    /// An etcd that asks for a password, with the users below.
    pub(crate) async fn guarded() -> Self {
        Self::guarded_as(Cluster::etcd()).await
    }

    /// The same, with these settings.
    pub(crate) async fn guarded_as(setup: Setup) -> Self {
        let mut servers = Self::of(setup, TTL).await;
        let mut client = servers.client().await;
        client.user_add("root", "root", None).await.unwrap();
        client.user_grant_role("root", "root").await.unwrap();
        for user in [APP, READER] {
            client.user_add(user, PASSWORD, None).await.unwrap();
            client.role_add(user).await.unwrap();
            client.user_grant_role(user, user).await.unwrap();
        }
        client.auth_enable().await.unwrap();
        servers.guarded = true;
        servers.permit(APP, PermissionType::Readwrite).await;
        servers.permit(READER, PermissionType::Read).await;
        servers
    }

    /// A client that may do everything.
    pub(crate) async fn root(&self) -> Client {
        let options = ConnectOptions::new().with_user("root", "root");
        Client::connect([self.cluster.address().to_string()], Some(options)).await.unwrap()
    }

    /// From now on the user may do this under `/callboard/`, and no more.
    pub(crate) async fn permit(&self, user: &str, permission: PermissionType) {
        let permission = Permission::new(permission, "/callboard/").with_prefix();
        self.root().await.role_grant_permission(user, permission).await.unwrap();
    }

    /// From now on the user may do nothing.
    pub(crate) async fn forbid(&self, user: &str) {
        let all = RoleRevokePermissionOptions::new().with_prefix();
        self.root().await.role_revoke_permission(user, "/callboard/", Some(all)).await.unwrap();
    }

    /// The user may do everything with this service.
    pub(crate) async fn permit_service(&self, user: &str, service: &ServiceName) {
        let permission = Permission::new(PermissionType::Readwrite, key(service, "")).with_prefix();
        self.root().await.role_grant_permission(user, permission).await.unwrap();
    }

    /// From now on the user may do nothing with this service.
    pub(crate) async fn forbid_service(&self, user: &str, service: &ServiceName) {
        let all = RoleRevokePermissionOptions::new().with_prefix();
        self.root().await.role_revoke_permission(user, key(service, ""), Some(all)).await.unwrap();
    }
}

#[async_trait]
impl Rights for Servers {
    async fn forbid_reading(&self) {
        self.forbid(READER).await;
    }

    async fn permit_reading(&self) {
        self.permit(READER, PermissionType::Read).await;
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        Arc::new(self.etcd_of(APP))
    }
}
