//! The contract of [`SigningKeys`], rule by rule. [`all`] runs every rule, each on an empty install.

use std::sync::Arc;
use std::time::Duration;

use claim::UserId;
use claim::applications::By;
use claim::audit::{AuditFilter, AuditLog};
use claim::directory::{Directory, DirectoryError};
use claim::keys::{SIGNING_KEYS, SigningKey, SigningKeys};

use crate::fixtures::at;

/// What makes the people and shows the deeds of the rules.
pub trait Install: AuditLog + Directory + SigningKeys {}

impl<T: AuditLog + Directory + SigningKeys> Install for T {}

/// Runs every rule; `install` makes an empty one for each.
pub async fn all<I: Install>(install: impl Fn() -> Arc<I>) {
    the_signing_key_stays_until_another_takes_its_place(&*install()).await;
    an_older_key_is_valid_until_it_ends(&*install()).await;
    so_many_keys_are_valid_at_once(&*install()).await;
}

async fn operator(install: &dyn Install) -> UserId {
    let first = install.bootstrap("op@example.com".to_owned(), "hash".to_owned(), at(0)).await;
    first.expect("an answer").expect("the first").id
}

fn ids(keys: &[SigningKey]) -> Vec<&str> {
    keys.iter().map(|key| key.kid.as_str()).collect()
}

/// Made on first use.
pub async fn the_signing_key_stays_until_another_takes_its_place(install: &dyn Install) {
    let account = operator(install).await;
    let first = install.signing_keys(at(0)).await.expect("a key");
    let again = install.signing_keys(at(1)).await.expect("a key");
    assert_eq!((first.len(), first[0].key.expose().len(), first[0].valid_until), (1, 32, None));
    assert_eq!((&first[0].kid, first[0].key.expose()), (&again[0].kid, again[0].key.expose()));
    let rotated = install.rotate_signing_key(at(100), By { account, now: at(2) }).await.expect("a key");
    assert_eq!(rotated.iter().map(|key| key.valid_until).collect::<Vec<_>>(), [None, Some(at(100))]);
    assert_eq!((&rotated[1].kid, rotated[1].key.expose()), (&first[0].kid, first[0].key.expose()));
    assert_ne!(rotated[0].key.expose(), first[0].key.expose());
    assert_eq!(ids(&install.signing_keys(at(3)).await.expect("keys")), ids(&rotated));
    let tenant = install.account(account).await.expect("the operator").tenant;
    let rows = install.rows(tenant, AuditFilter::default(), 10).await.expect("rows");
    let deeds: Vec<(&str, &str)> = rows.iter().map(|row| (row.action.as_str(), row.reason.as_str())).collect();
    assert_eq!(deeds, [("keys.jwt_rotated", rotated[0].kid.as_str())]);
}

/// And not at that instant any more.
pub async fn an_older_key_is_valid_until_it_ends(install: &dyn Install) {
    let account = operator(install).await;
    let first = install.signing_keys(at(0)).await.expect("a key")[0].kid.clone();
    let rotate = async |ms| {
        install.rotate_signing_key(at(ms + 100), By { account, now: at(ms) }).await.expect("keys")[0].kid.clone()
    };
    let second = rotate(10).await;
    let third = rotate(50).await;
    let valid = async |ms| install.signing_keys(at(ms)).await.expect("keys");
    assert_eq!(ids(&valid(109).await), [&*third, &*second, &*first]);
    assert_eq!(ids(&valid(110).await), [&*third, &*second]);
    assert_eq!(ids(&valid(150).await), [&*third]);
}

/// A rotation beyond it changes nothing; when the older ones are over there is room again.
pub async fn so_many_keys_are_valid_at_once(install: &dyn Install) {
    let by = |account, ms| By { account, now: at(ms) };
    let account = operator(install).await;
    install.signing_keys(at(0)).await.expect("a key");
    for n in 1..SIGNING_KEYS {
        install.rotate_signing_key(at(1_000), by(account, i64::from(n))).await.expect("room");
    }
    let before = install.signing_keys(at(20)).await.expect("keys");
    let refused = install.rotate_signing_key(at(1_000), by(account, 21)).await.map(drop);
    assert!(matches!(refused, Err(DirectoryError::Full { most: SIGNING_KEYS, .. })), "{refused:?}");
    assert_eq!(ids(&install.signing_keys(at(22)).await.expect("keys")), ids(&before));
    let later = at(1_000).plus(Duration::from_millis(1));
    let after = install.rotate_signing_key(later, By { account, now: at(1_000) }).await.expect("room");
    assert_eq!(after.len(), 2);
}
