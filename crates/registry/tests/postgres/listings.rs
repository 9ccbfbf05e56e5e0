//! Applications: the contract, and what several nodes do to one install.

use claim::applications::{ApplicationDraft, Applications, By, Identity, NewDevice, RootKeys};
use claim::directory::{Directory, DirectoryError, PageRequest};
use claim::{CustomerId, Eui64, ListingId, TenantId, UserId};
use registry::PostgresRegistry;
use testkit::{applications_battery, at};

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_applications() {
    applications_battery::all(|registry: &PostgresRegistry| registry.keyring(), || server().fresh()).await;
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn id(text: &str) -> ListingId {
    ListingId::parse(text).expect("an id")
}

fn device(listing: &str, eui: u8, most: Option<u32>) -> NewDevice {
    let dev_eui = Some(Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0, 0, eui]));
    NewDevice {
        listing: id(listing),
        name: None,
        label: None,
        identity: Identity { dev_eui, ..Identity::default() },
        claiming_allowed: None,
        code: None,
        root_keys: RootKeys::default(),
        root_keys_exposed: false,
        most,
    }
}

async fn customer(registry: &PostgresRegistry) -> (TenantId, CustomerId) {
    let tenant = registry.create_tenant("maker".to_owned(), at(0)).await.expect("a tenant").id;
    (tenant, registry.create_customer(tenant, "owner".to_owned(), None, at(0)).await.expect("a customer").id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_customer_has_so_many_applications_and_devices_however_many_nodes_it_asks() {
    let database = server().database().await;
    let nodes = [server().open(&database).await, server().open(&database).await];
    let (tenant, owner) = customer(&nodes[0]).await;
    let draft = |listing: String| ApplicationDraft {
        listing: id(&listing),
        customer: Some(owner),
        claiming_authorized: true,
        invalidate_code_on_claim: None,
        most: Some(3),
    };
    let made: Vec<_> = (0..8)
        .map(|n| {
            let (node, draft) = (nodes[n % 2].clone(), draft(format!("house-{n}")));
            tokio::spawn(async move { node.create_application(tenant, draft, by(1)).await })
        })
        .collect();
    let mut applications = Vec::new();
    for made in made {
        match made.await.expect("no panic") {
            Ok(application) => applications.push(application.listing),
            Err(error) => {
                assert_eq!(error, DirectoryError::Full { what: "applications of a customer", most: 3 });
            }
        }
    }
    assert_eq!(applications.len(), 3);
    let registered: Vec<_> = (0..24_u8)
        .map(|n| {
            let (node, application) = (nodes[usize::from(n % 2)].clone(), applications[usize::from(n % 3)].clone());
            let device = device(&format!("pump-{n}"), n, Some(10));
            tokio::spawn(async move { node.register(tenant, application, device, by(2)).await })
        })
        .collect();
    let mut count = 0;
    for registered in registered {
        match registered.await.expect("no panic") {
            Ok(_) => count += 1,
            Err(error) => {
                assert_eq!(error, DirectoryError::Full { what: "devices registered by a customer", most: 10 });
            }
        }
    }
    assert_eq!(count, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_nodes_that_register_one_device_one_succeeds_and_the_others_are_told_why() {
    let database = server().database().await;
    let nodes = [server().open(&database).await, server().open(&database).await];
    let (tenant, _) = customer(&nodes[0]).await;
    for round in 0..10_u8 {
        let registered: Vec<_> = (0..6)
            .map(|n| {
                let node = nodes[n % 2].clone();
                // All want one DevEUI; half of them also one id.
                let device = device(&format!("pump-{round}-{}", n % 3), round, None);
                tokio::spawn(async move { node.register(tenant, id("default"), device, by(1)).await })
            })
            .collect();
        let mut count = 0;
        for registered in registered {
            match registered.await.expect("no panic") {
                Ok(_) => count += 1,
                Err(error) => assert!(
                    matches!(error, DirectoryError::Taken("device id" | "dev_eui" | "name")),
                    "round {round}: {error:?}"
                ),
            }
        }
        assert_eq!(count, 1, "round {round}");
    }
    let page = PageRequest { size: 100, page: 0, text: None };
    assert_eq!(nodes[1].listed_in(tenant, id("default"), page).await.expect("a page").total, 10);
}
