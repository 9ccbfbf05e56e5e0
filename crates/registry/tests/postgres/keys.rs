//! Signing keys, and what only several nodes can show of them.

use claim::applications::By;
use claim::directory::{Directory, DirectoryError};
use claim::keys::SigningKeys;
use claim::{MasterKey, UserId};
use registry::HandOver;
use testkit::{at, keys_battery};

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_signing_keys() {
    keys_battery::all(|| server().fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_start_at_once_sign_with_one_key() {
    let database = server().database().await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(server().open(&database).await);
    }
    let asked: Vec<_> = nodes
        .into_iter()
        .map(|node| tokio::spawn(async move { node.signing_keys(at(0)).await.expect("a key") }))
        .collect();
    let mut kids = Vec::new();
    for keys in asked {
        kids.extend(keys.await.expect("no panic").into_iter().map(|key| key.kid));
    }
    assert_eq!(kids.len(), 4);
    assert!(kids.windows(2).all(|pair| pair[0] == pair[1]), "{kids:?}");
}

/// It would be lost: nobody seals it anew who does not know of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_master_key_was_replaced_by_another_seals_nothing() {
    let database = server().database().await;
    let (node, other) = (server().open(&database).await, server().open(&database).await);
    let account = node.bootstrap("op@example.com".to_owned(), "hash".to_owned(), at(0)).await;
    let by = By { account: account.expect("an answer").expect("the first").id, now: at(1) };
    node.signing_keys(at(0)).await.expect("a key");
    assert_eq!(node.replace_master(&MasterKey::from_bytes(&[2; 32]), by).await, HandOver::Done);
    assert_eq!(node.rotate_signing_key(at(10), by).await.expect("rotated").len(), 2);
    let refused = other.rotate_signing_key(at(10), By { account: UserId::random(), now: at(2) }).await;
    assert_eq!(refused.map(drop), Err(DirectoryError::Unavailable));
    assert!(server().open_under(&database, 1, None).await.is_err(), "the old key opens nothing any more");
    assert!(server().open_under(&database, 2, Some(1)).await.is_ok_and(|node| node.handed_over()));
}
