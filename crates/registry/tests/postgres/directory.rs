//! The directory and gateways; and what happens when several nodes do the same at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use claim::applications::By;
use claim::directory::{
    AccountDraft, ApiKeyDraft, DeviceDraft, Directory, DirectoryError, PageRequest, RefreshSession, RefreshUse,
};
use claim::owner::Authority;
use claim::{DeviceName, TenantId, UserId};
use registry::PostgresRegistry;
use testkit::wait::until;
use testkit::{at, directory_battery, gateways_battery};

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_the_directory() {
    directory_battery::all(|| server().fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_gateways() {
    gateways_battery::all(|| server().fresh()).await;
}

/// SQLite looks for it and finds nothing; PostgreSQL has an error for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_has_a_zero_character_in_it() {
    let node = server().fresh();
    let tenant = tenant(&node).await;
    node.save_device(tenant, draft("d"), by(0)).await.expect("a device");
    assert_eq!(node.account_by_email("a\0@x.org".to_owned()).await, Ok(None));
    let page = PageRequest { size: 10, page: 0, text: Some("d\0".to_owned()) };
    assert_eq!(node.devices(tenant, None, page).await.expect("a page").total, 0);
}

/// Nodes on one empty database.
async fn nodes(count: usize) -> Vec<Arc<PostgresRegistry>> {
    let database = server().database().await;
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(server().open(&database).await);
    }
    nodes
}

/// What every node answers when all are asked at once.
async fn at_once<T, F>(nodes: &[Arc<PostgresRegistry>], ask: impl Fn(Arc<PostgresRegistry>, u8) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let asked: Vec<_> = nodes.iter().zip(0..).map(|(node, n)| tokio::spawn(ask(Arc::clone(node), n))).collect();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.expect("no panic"));
    }
    answers
}

async fn admin(node: &PostgresRegistry, tenant: TenantId, email: &str, operator: bool) -> UserId {
    let draft = AccountDraft {
        tenant,
        authority: Authority::TenantAdmin,
        operator,
        email: email.to_owned(),
        first_name: None,
        last_name: None,
        additional_info: None,
        password_hash: None,
    };
    node.create_account(draft, at(0)).await.expect("an account").id
}

async fn tenant(node: &PostgresRegistry) -> TenantId {
    node.create_tenant("maker".to_owned(), at(0)).await.expect("a tenant").id
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn draft(name: &str) -> DeviceDraft {
    DeviceDraft {
        id: None,
        name: DeviceName::parse(name).expect("a name"),
        profile: None,
        profile_name: None,
        label: None,
        gateway: false,
        additional_info: None,
        credential: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nodes_that_start_at_once_one_makes_the_operator() {
    let nodes = nodes(4).await;
    let made = at_once(&nodes, async |node, n| {
        node.bootstrap(format!("admin{n}@example.com"), "hash".to_owned(), at(0)).await.expect("an answer")
    });
    let made: Vec<_> = made.await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let everybody = PageRequest { size: 10, ..PageRequest::default() };
    assert_eq!(nodes[0].accounts(made[0].tenant, None, everybody.clone()).await.expect("a page").total, 1);
    assert_eq!(nodes[0].tenants(everybody).await.expect("a page").total, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_operators_who_remove_each_other_at_once_one_stays() {
    let nodes = nodes(2).await;
    let tenant = tenant(&nodes[0]).await;
    let mut stays = admin(&nodes[0], tenant, "first@x.org", true).await;
    for round in 0..10 {
        let pair = [stays, admin(&nodes[0], tenant, &format!("{round}@x.org"), true).await];
        let gone =
            at_once(&nodes, move |node, n| async move { node.delete_account(tenant, pair[usize::from(n)]).await })
                .await;
        assert!(
            matches!(gone[..], [Ok(()), Err(DirectoryError::InUse(_))] | [Err(DirectoryError::InUse(_)), Ok(())]),
            "{gone:?}"
        );
        stays = if gone[0].is_ok() { pair[1] } else { pair[0] };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_token_is_read_by_one_node() {
    let nodes = nodes(4).await;
    let tenant = tenant(&nodes[0]).await;
    for round in 0..5 {
        let device = nodes[0].save_device(tenant, draft(&format!("d{round}")), by(0)).await.expect("a device").0.id;
        let read = at_once(&nodes, move |node, _| async move {
            node.credential(tenant, device, at(1)).await.expect("a credential").readable_once.is_some()
        });
        assert_eq!(read.await.into_iter().filter(|shown| *shown).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_refresh_token_used_at_once_leave_nobody_signed_in() {
    let nodes = nodes(4).await;
    let tenant = tenant(&nodes[0]).await;
    let account = admin(&nodes[0], tenant, "a@x.org", false).await;
    for round in 0..5_u8 {
        let first = [10 * round; 32];
        let session = RefreshSession { digest: first, account, family: [round; 16], expires_at: at(100) };
        nodes[0].open_session(session).await.expect("opened");
        let successor = move |n: u8| [10 * round + n + 1; 32];
        let used = at_once(&nodes, move |node, n| async move {
            node.rotate_session(first, successor(n), at(100), at(1)).await.expect("an answer")
        });
        let used = used.await;
        assert_eq!(used.iter().filter(|used| matches!(used, RefreshUse::Rotated(_))).count(), 1, "{used:?}");
        for n in 0..4 {
            let after = nodes[0].rotate_session(successor(n), [255; 32], at(100), at(2)).await;
            assert_eq!(after, Ok(RefreshUse::Unknown));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_made_at_once_end_at_the_bound_too() {
    let nodes = nodes(4).await;
    let tenant = tenant(&nodes[0]).await;
    let account = admin(&nodes[0], tenant, "a@x.org", false).await;
    let key =
        move |n: u8| ApiKeyDraft { account, name: format!("key {n}"), digest: [n; 32], expires_at: None, most: 20 };
    for n in 0..18 {
        nodes[0].create_api_key(key(n), at(0)).await.expect("a key");
    }
    let made = at_once(&nodes, move |node, n| async move { node.create_api_key(key(200 + n), at(0)).await }).await;
    assert_eq!(made.iter().filter(|key| key.is_ok()).count(), 2, "{made:?}");
    assert!(made.iter().all(|key| matches!(key, Ok(_) | Err(DirectoryError::Full { most: 20, .. }))), "{made:?}");
    assert_eq!(nodes[0].api_keys(account).await.expect("keys").len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_made_by_many_at_once_are_all_made() {
    let nodes = nodes(8).await;
    let tenant = tenant(&nodes[0]).await;
    // Names that all make the same id in `default`.
    let made = at_once(&nodes, move |node, n| async move {
        for round in 0..10 {
            let name = format!("pump{}{}", "-".repeat(usize::from(n) + 1), "_".repeat(round));
            node.save_device(tenant, draft(&name), by(0)).await?;
        }
        Ok::<_, DirectoryError>(())
    });
    assert_eq!(made.await, vec![Ok(()); 8]);
    let everything = PageRequest { size: 1, ..PageRequest::default() };
    assert_eq!(nodes[0].devices(tenant, None, everything).await.expect("a page").total, 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sign_in_at_once() {
    let nodes = nodes(8).await;
    let tenant = tenant(&nodes[0]).await;
    let mut accounts = [UserId::from_bytes([0; 16]); 8];
    for (n, account) in accounts.iter_mut().enumerate() {
        *account = admin(&nodes[0], tenant, &format!("{n}@x.org"), false).await;
    }
    let signed_in = at_once(&nodes, move |node, n| async move {
        for round in 0..20 {
            let (account, family) = (accounts[usize::from(n)], [n; 16]);
            let digest = |which: u8| core::array::from_fn(|byte| [n, round, which][byte % 3]);
            let session =
                |which, until| RefreshSession { digest: digest(which), account, family, expires_at: at(until) };
            node.open_session(session(0, 100)).await?;
            // One that is over already, for all to sweep away.
            node.open_session(session(1, 1)).await?;
            let used = node.rotate_session(digest(0), digest(2), at(100), at(1)).await?;
            assert_eq!(used, RefreshUse::Rotated(account));
        }
        Ok::<_, DirectoryError>(())
    });
    assert_eq!(signed_in.await, vec![Ok(()); 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_outlives_a_changed_password() {
    let nodes = nodes(2).await;
    let tenant = tenant(&nodes[0]).await;
    let account = admin(&nodes[0], tenant, "a@x.org", false).await;
    for round in 0..10_u8 {
        let digest = move |n: u8| core::array::from_fn(|byte| [round, n][byte % 2]);
        let first = RefreshSession { digest: digest(0), account, family: [round; 16], expires_at: at(100) };
        nodes[0].open_session(first).await.expect("opened");
        // One goes on with its session until it is told that there is none, while the other changes the password.
        let rotated = Arc::new(AtomicU8::new(0));
        let went_on = at_once(&nodes, move |node, n| {
            let rotated = Arc::clone(&rotated);
            async move {
                if n == 1 {
                    // Each round a little later.
                    let late = || async { (rotated.load(Ordering::Relaxed) >= round).then_some(()) };
                    until("the session goes on", late).await;
                    return node.set_password(account, "other".to_owned()).await.map(|()| 0);
                }
                let mut n = 0;
                while n < 254
                    && node.rotate_session(digest(n), digest(n + 1), at(100), at(1)).await? != RefreshUse::Unknown
                {
                    n += 1;
                    rotated.store(n, Ordering::Relaxed);
                }
                Ok(n)
            }
        });
        let last = went_on.await[0].clone().expect("no failure");
        assert!(last < 254, "it never ended");
        assert_eq!(nodes[1].rotate_session(digest(last), [255; 32], at(100), at(2)).await, Ok(RefreshUse::Unknown));
    }
}
