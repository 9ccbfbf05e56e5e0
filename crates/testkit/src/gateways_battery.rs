//! The contract of [`Gateways`], rule by rule. [`all`] runs every rule, each on an empty install.

use std::sync::Arc;

use claim::applications::By;
use claim::directory::{DeviceDraft, DeviceRecord, Directory, PageRequest};
use claim::gateways::Gateways;
use claim::{DeviceName, TenantId, UserId};

use crate::fixtures::at;

/// An install that an adapter's tests make.
pub trait Install: Gateways + Directory {}

impl<T: Gateways + Directory> Install for T {}

/// Runs every rule; `install` makes an empty one for each.
pub async fn all<I: Install>(install: impl Fn() -> Arc<I>) {
    gateways_and_their_children_are_listed_by_name(&*install()).await;
}

async fn device<I: Install>(install: &I, tenant: TenantId, name: &str, gateway: bool) -> DeviceRecord {
    let draft = DeviceDraft {
        id: None,
        name: DeviceName::parse(name).expect("a name"),
        profile: None,
        profile_name: None,
        label: None,
        gateway,
        additional_info: None,
        credential: None,
    };
    install
        .save_device(tenant, draft, By { account: UserId::from_bytes([9; 16]), now: at(0) })
        .await
        .expect("a device")
        .0
}

/// A tenant's own, those with the mark; and of each what it is related to now.
pub async fn gateways_and_their_children_are_listed_by_name<I: Install>(install: &I) {
    let here = install.create_tenant("here".to_owned(), at(0)).await.expect("a tenant").id;
    let there = install.create_tenant("there".to_owned(), at(0)).await.expect("a tenant").id;
    let (south, north) = (device(install, here, "south", true).await, device(install, here, "north", true).await);
    device(install, there, "foreign", true).await;
    let (b, a) = (device(install, here, "b", false).await, device(install, here, "a", false).await);
    for child in [&a, &b] {
        install.relate(here, north.id, child.id, at(1)).await.expect("related");
    }
    let page = |text: Option<&str>| PageRequest { size: 10, page: 0, text: text.map(str::to_owned) };
    let gateways = install.gateways(here, page(None)).await.expect("a page");
    assert_eq!((gateways.rows, gateways.total), (vec![north.clone(), south.clone()], 2));
    assert_eq!(install.gateways(here, page(Some("SOU"))).await.expect("a page").rows, std::slice::from_ref(&south));
    let children = install.children(here, north.id, page(None)).await.expect("a page");
    assert_eq!((children.rows, children.total), (vec![a.clone(), b.clone()], 2));
    let first = PageRequest { size: 1, ..page(None) };
    let first = install.children(here, north.id, first).await.expect("a page");
    assert_eq!((first.rows, first.total), (vec![a.clone()], 2));
    for (tenant, gateway) in [(there, north.id), (here, south.id), (here, a.id)] {
        assert_eq!(install.children(tenant, gateway, page(None)).await.expect("a page").total, 0);
    }
    install.unrelate(here, north.id, a.id).await.expect("ended");
    assert_eq!(install.children(here, north.id, page(None)).await.expect("a page").rows, [b]);
}
