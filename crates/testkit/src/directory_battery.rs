//! The contract of [`Directory`], rule by rule: names, tenants, what may go and what not, secrets that are shown once,
//! sessions. [`all`] runs every rule, each on an empty install.

use std::sync::Arc;
use std::time::Duration;

use claim::applications::By;
use claim::audit::{AuditFilter, AuditLog};
use claim::device::{PayloadFormat, ProfileId};
use claim::directory::{
    AccountChange, AccountDraft, ApiKeyDraft, ClaimSettingsChange, CredentialDraft, CredentialKind, DeviceDraft,
    DeviceProfile, DeviceRecord, Directory, DirectoryError, PageRequest, RefreshSession, RefreshUse,
};
use claim::owner::Authority;
use claim::{CustomerId, DeviceId, DeviceName, Secret, SecretDigest, TenantId, UserId};

use crate::fixtures::at;

/// Runs every rule; `install` makes an empty one for each.
pub async fn all<D: AuditLog + Directory>(install: impl Fn() -> Arc<D>) {
    the_first_start_makes_one_operator_only(&*install()).await;
    names_are_unique_where_they_must_be(&*install()).await;
    tenants_and_accounts_are_called_otherwise(&*install()).await;
    accounts_are_listed_by_tenant_and_customer(&*install()).await;
    tenants_do_not_see_each_other(&*install()).await;
    what_is_in_use_does_not_go(&*install()).await;
    a_list_is_cut_into_pages(&*install()).await;
    a_generated_token_is_shown_in_its_answer_and_once_more(&*install()).await;
    a_credential_takes_the_place_of_the_one_before(&*install()).await;
    claim_settings_are_set_left_and_deleted(&*install()).await;
    an_owned_device_takes_no_claiming_data(&*install()).await;
    what_is_done_to_a_device_is_on_record(&*install()).await;
    an_admin_gives_to_nobody_else_s_owner(&*install()).await;
    a_refresh_token_works_once_and_its_copy_ends_the_family(&*install()).await;
    an_activation_works_once_and_in_time(&*install()).await;
    only_gateways_get_relations(&*install()).await;
    an_api_key_acts_as_its_account_until_it_ends(&*install()).await;
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

fn person(tenant: TenantId, authority: Authority, email: &str) -> AccountDraft {
    AccountDraft {
        tenant,
        authority,
        operator: false,
        email: email.to_owned(),
        first_name: None,
        last_name: None,
        additional_info: None,
        password_hash: Some("hash".to_owned()),
    }
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

async fn tenant(directory: &dyn Directory, title: &str) -> TenantId {
    directory.create_tenant(title.to_owned(), at(0)).await.expect("a tenant").id
}

async fn customer(directory: &dyn Directory, tenant: TenantId, title: &str) -> CustomerId {
    directory.create_customer(tenant, title.to_owned(), None, at(0)).await.expect("a customer").id
}

async fn device(directory: &dyn Directory, tenant: TenantId, name: &str) -> DeviceRecord {
    directory.save_device(tenant, draft(name), by(0)).await.expect("a device").0
}

/// Whoever starts second finds an install.
pub async fn the_first_start_makes_one_operator_only(directory: &dyn Directory) {
    assert_eq!(directory.has_accounts().await, Ok(false));
    let first = directory.bootstrap("Admin@Example.com".to_owned(), "hash".to_owned(), at(0)).await;
    let first = first.expect("an answer").expect("the first");
    assert!(first.operator);
    assert_eq!(first.authority, Authority::TenantAdmin);
    assert_eq!(directory.tenant(first.tenant).await.expect("its tenant").title, "default");
    assert_eq!(directory.bootstrap("b@example.com".to_owned(), "hash".to_owned(), at(1)).await, Ok(None));
    assert_eq!(directory.has_accounts().await, Ok(true));
    let (found, hash) = directory.account_by_email("aDMIN@example.COM".to_owned()).await.expect("ok").expect("found");
    assert_eq!((found.id, hash.as_deref()), (first.id, Some("hash")));
    let last = directory.delete_account(first.tenant, first.id).await;
    assert!(matches!(last, Err(DirectoryError::InUse(_))), "the last operator stays: {last:?}");
}

/// In an install, in a tenant.
pub async fn names_are_unique_where_they_must_be(directory: &dyn Directory) {
    let (here, there) = (tenant(directory, "here").await, tenant(directory, "there").await);
    let taken = directory.create_tenant("here".to_owned(), at(0)).await;
    assert_eq!(taken.map(drop), Err(DirectoryError::Taken("title")));

    customer(directory, here, "c").await;
    customer(directory, there, "c").await;
    let taken = directory.create_customer(here, "c".to_owned(), None, at(0)).await;
    assert_eq!(taken.map(drop), Err(DirectoryError::Taken("title")));

    let first = device(directory, here, "d").await;
    device(directory, there, "d").await;
    let taken = directory.save_device(here, draft("d"), by(0)).await.map(drop);
    assert_eq!(taken, Err(DirectoryError::Taken("name")));
    let second = device(directory, here, "e").await;
    let renamed = DeviceDraft { id: Some(second.id), ..draft("d") };
    assert_eq!(directory.save_device(here, renamed, by(0)).await.map(drop), Err(DirectoryError::Taken("name")));
    assert_eq!(directory.device_record(here, second.id).await.expect("there").name.as_str(), "e", "nothing changed");
    let same = DeviceDraft { id: Some(first.id), label: Some("hall".to_owned()), ..draft("d") };
    let (changed, _) = directory.save_device(here, same, by(0)).await.expect("its own name is free to it");
    assert_eq!((changed.label.as_deref(), changed.version), (Some("hall"), first.version + 1));

    let account = person(here, Authority::TenantAdmin, "x@example.com");
    directory.create_account(account, at(0)).await.expect("an account");
    let again = person(there, Authority::TenantAdmin, "X@example.com");
    assert_eq!(directory.create_account(again, at(0)).await.map(drop), Err(DirectoryError::Taken("email")));
}

/// What a tenant and a person are called changes, on record; what else they are stays.
pub async fn tenants_and_accounts_are_called_otherwise<D: AuditLog + Directory>(directory: &D) {
    let (here, there) = (tenant(directory, "here").await, tenant(directory, "there").await);
    let by = By { account: UserId::from_bytes([9; 16]), now: at(1) };
    let taken = directory.rename_tenant(there, "here".to_owned(), by).await.map(drop);
    assert_eq!(taken, Err(DirectoryError::Taken("title")));
    let unknown = directory.rename_tenant(TenantId::random(), "new".to_owned(), by).await.map(drop);
    assert_eq!(unknown, Err(DirectoryError::NotFound("tenant")));
    let renamed = directory.rename_tenant(there, "elsewhere".to_owned(), by).await.expect("renamed");
    assert_eq!((renamed.id, renamed.title.as_str(), renamed.version), (there, "elsewhere", 2));
    assert_eq!(directory.tenant(there).await, Ok(renamed));
    let made = directory.create_account(person(here, Authority::TenantAdmin, "m@example.com"), at(0)).await;
    let made = made.expect("an account");
    let change = AccountChange { first_name: Some("Ada".to_owned()), ..AccountChange::default() };
    let foreign = directory.change_account(there, made.id, change.clone(), by).await.map(drop);
    assert_eq!(foreign, Err(DirectoryError::NotFound("account")));
    assert_eq!(directory.account(made.id).await, Ok(made.clone()));
    let changed = directory.change_account(here, made.id, change, by).await.expect("changed");
    assert_eq!(changed, claim::directory::Account { first_name: Some("Ada".to_owned()), ..made.clone() });
    assert_eq!(directory.account(made.id).await, Ok(changed));
    let told = async |tenant| {
        let rows = directory.rows(tenant, AuditFilter::default(), 10).await.expect("rows");
        rows.into_iter().map(|row| (row.action, row.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told(there).await, [("tenant.renamed".to_owned(), "elsewhere".to_owned())]);
    assert_eq!(told(here).await, [("account.changed".to_owned(), made.id.to_string())]);
}

/// By e-mail, a tenant's all or a customer's own.
pub async fn accounts_are_listed_by_tenant_and_customer(directory: &dyn Directory) {
    let (here, there) = (tenant(directory, "here").await, tenant(directory, "there").await);
    let own = customer(directory, here, "c").await;
    for (tenant, authority, email) in [
        (here, Authority::TenantAdmin, "maker@example.com"),
        (here, Authority::CustomerUser(own), "owner@example.com"),
        (there, Authority::TenantAdmin, "foreign@example.com"),
    ] {
        directory.create_account(person(tenant, authority, email), at(0)).await.expect("an account");
    }
    let emails = async |tenant, customer, text: Option<&str>| {
        let page = PageRequest { size: 10, page: 0, text: text.map(str::to_owned) };
        let page = directory.accounts(tenant, customer, page).await.expect("a page");
        page.rows.into_iter().map(|account| account.email).collect::<Vec<_>>()
    };
    assert_eq!(emails(here, None, None).await, ["maker@example.com", "owner@example.com"]);
    assert_eq!(emails(here, None, Some("OWN")).await, ["owner@example.com"]);
    assert_eq!(emails(here, Some(own), None).await, ["owner@example.com"]);
    assert_eq!(emails(there, Some(own), None).await, Vec::<String>::new(), "another tenant's customer");
}

/// What is another's does not exist.
pub async fn tenants_do_not_see_each_other(directory: &dyn Directory) {
    let (here, there) = (tenant(directory, "here").await, tenant(directory, "there").await);
    let theirs = device(directory, there, "theirs").await;
    let owner = customer(directory, there, "owner").await;
    let not_found = |what| Err(DirectoryError::NotFound(what));
    assert_eq!(directory.device_record(here, theirs.id).await.map(drop), not_found("device"));
    assert_eq!(directory.device_by_name(here, theirs.name.clone()).await.map(drop), not_found("device"));
    let change = DeviceDraft { id: Some(theirs.id), ..draft("mine") };
    assert_eq!(directory.save_device(here, change, by(0)).await.map(drop), not_found("device"));
    assert_eq!(directory.delete_device(here, theirs.id, by(0)).await, not_found("device"));
    assert_eq!(directory.claim_settings(here, theirs.id).await.map(drop), not_found("device"));
    let allow = ClaimSettingsChange { claiming_allowed: Some(Some(true)), claiming_data: None };
    assert_eq!(directory.change_claim_settings(here, theirs.id, allow, by(0)).await, not_found("device"));
    assert!(matches!(directory.credential(here, theirs.id, at(0)).await, Err(DirectoryError::NotFound(_))));
    assert_eq!(directory.customer(here, owner).await.map(drop), not_found("customer"));
    assert_eq!(directory.delete_customer(here, owner, at(0)).await, not_found("customer"));
    let rename = directory.update_customer(here, owner, "mine".to_owned(), None).await.map(drop);
    assert_eq!(rename, not_found("customer"));
    let foreign = person(here, Authority::CustomerUser(owner), "y@example.com");
    assert_eq!(directory.create_account(foreign, at(0)).await.map(drop), not_found("customer"));
    assert_eq!(
        directory.devices(here, None, PageRequest { size: 10, ..PageRequest::default() }).await.unwrap().total,
        0
    );
    // And nothing came of all that.
    assert_eq!(directory.device_record(there, theirs.id).await, Ok(theirs));
    assert_eq!(directory.customer(there, owner).await.expect("there").title, "owner");
}

/// Owners keep what they own; the last tenant, default profiles and profiles in use stay.
pub async fn what_is_in_use_does_not_go(directory: &dyn Directory) {
    let admin = directory.bootstrap("a@example.com".to_owned(), "h".to_owned(), at(0)).await.unwrap().expect("first");
    let in_use =
        |answer: Result<(), DirectoryError>| assert!(matches!(answer, Err(DirectoryError::InUse(_))), "{answer:?}");
    in_use(directory.delete_tenant(admin.tenant, at(0)).await);
    let other = tenant(directory, "other").await;
    let owner = customer(directory, other, "owner").await;
    let owned = device(directory, other, "d").await;
    directory.assign_by_admin(other, owned.id, owner, admin.id, at(1)).await.expect("assigned");
    in_use(directory.delete_customer(other, owner, at(2)).await);
    in_use(directory.delete_tenant(other, at(2)).await);

    let profiles = directory.profiles(other, PageRequest { size: 10, ..PageRequest::default() }).await.expect("a page");
    assert_eq!((profiles.total, profiles.rows[0].is_default), (1, true));
    in_use(directory.delete_profile(other, profiles.rows[0].id).await);
    let profile = DeviceProfile {
        id: ProfileId::random(),
        name: "proto".to_owned(),
        mqtt_format: PayloadFormat::Protobuf,
        is_default: false,
        ..profiles.rows[0].clone()
    };
    let profile = directory.save_profile(profile).await.expect("a profile");
    let uses = DeviceDraft { profile_name: Some("proto".to_owned()), ..draft("user") };
    let user = directory.save_device(other, uses, by(0)).await.expect("a device").0;
    assert_eq!(user.profile, profile.id);
    in_use(directory.delete_profile(other, profile.id).await);
    directory.delete_device(other, user.id, by(3)).await.expect("gone");
    directory.delete_profile(other, profile.id).await.expect("nobody uses it");

    // The maker may delete a device that has an owner; then nothing is in use any more.
    directory.delete_device(other, owned.id, by(4)).await.expect("gone");
    directory.delete_customer(other, owner, at(5)).await.expect("gone");
    directory.delete_tenant(other, at(6)).await.expect("gone");
    assert_eq!(directory.tenant(other).await.map(drop), Err(DirectoryError::NotFound("tenant")));
}

/// By name, with the number of all; a text is looked for anywhere, in any case, and taken literally.
pub async fn a_list_is_cut_into_pages(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    for name in ["pump 3", "pump 1", "PUMP 2", "100%", "100x"] {
        device(directory, tenant, name).await;
    }
    let list = async |size, page, text: Option<&str>| {
        let request = PageRequest { size, page, text: text.map(str::to_owned) };
        let page = directory.devices(tenant, None, request).await.expect("a page");
        (page.rows.iter().map(|row| row.name.as_str().to_owned()).collect::<Vec<_>>(), page.total)
    };
    let (all, total) = list(10, 0, None).await;
    assert_eq!((all.len(), total), (5, 5));
    assert_eq!(list(2, 0, None).await, (all[..2].to_vec(), 5));
    assert_eq!(list(2, 1, None).await, (all[2..4].to_vec(), 5));
    assert_eq!(list(2, 2, None).await, (all[4..].to_vec(), 5));
    assert_eq!(list(2, 3, None).await, (vec![], 5));
    assert_eq!(list(10, 0, Some("ump")).await.1, 3);
    assert_eq!(list(10, 0, Some("0%")).await, (vec!["100%".to_owned()], 1));
    assert_eq!(list(10, 0, Some("_")).await.1, 0);
}

/// In the answer that made it, and by the first read within a day.
pub async fn a_generated_token_is_shown_in_its_answer_and_once_more(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let day = Duration::from_secs(24 * 3600);
    let (first, made) = directory.save_device(tenant, draft("first"), by(0)).await.expect("a device");
    let token = made.expect("a credential").readable_once.expect("its token").expose().clone();
    assert_eq!(token.len(), 22);
    let read = directory.credential(tenant, first.id, at(1)).await.expect("a credential");
    assert_eq!(read.readable_once.expect("the first read").expose(), &token);
    assert!(!read.masked.is_empty() && !token.contains(&read.masked));
    let again = directory.credential(tenant, first.id, at(2)).await.expect("a credential");
    assert!(again.readable_once.is_none(), "the second read");
    let (late, _) = directory.save_device(tenant, draft("late"), by(0)).await.expect("a device");
    let read = directory.credential(tenant, late.id, at(0).plus(day)).await.expect("a credential");
    assert!(read.readable_once.is_none(), "a day later");
}

/// Tokens are unique in the install; one that is taken changes nothing.
pub async fn a_credential_takes_the_place_of_the_one_before(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let (a, b) = (device(directory, tenant, "a").await, device(directory, tenant, "b").await);
    let token = |text: &str| CredentialDraft::AccessToken(Secret::new(text.to_owned()));
    let set = directory.set_credential(tenant, a.id, token("token-of-a"), at(1)).await.expect("set");
    assert_eq!(set.kind, CredentialKind::AccessToken);
    let taken = directory.set_credential(tenant, b.id, token("token-of-a"), at(2)).await.map(drop);
    assert!(matches!(taken, Err(DirectoryError::Taken(_))), "{taken:?}");
    let basic = CredentialDraft::MqttBasic {
        client_id: Some("client".to_owned()),
        user_name: Some("user".to_owned()),
        password: Some(Secret::new("word".to_owned())),
    };
    let view = directory.set_credential(tenant, a.id, basic, at(3)).await.expect("set");
    assert_eq!(view.kind, CredentialKind::MqttBasic);
    assert_eq!((view.client_id.as_deref(), view.user_name.as_deref()), (Some("client"), Some("user")));
    // The old one is free again.
    directory.set_credential(tenant, b.id, token("token-of-a"), at(4)).await.expect("free");
}

/// By whom, and in which order; a refused change leaves nothing.
pub async fn what_is_done_to_a_device_is_on_record<D: AuditLog + Directory>(directory: &D) {
    let tenant = tenant(directory, "maker").await;
    let device = device(directory, tenant, "d").await.id;
    directory.save_device(tenant, draft("d"), by(1)).await.map(drop).expect_err("the name is taken");
    let renamed = DeviceDraft { id: Some(device), ..draft("e") };
    directory.save_device(tenant, renamed, by(2)).await.map(drop).expect("renamed");
    let change = async |claiming_allowed, claiming_data, ms| {
        let change = ClaimSettingsChange { claiming_allowed, claiming_data };
        directory.change_claim_settings(tenant, device, change, by(ms)).await.expect("changed");
    };
    change(Some(Some(false)), Some(Some((SecretDigest::from_bytes([7; 32]), at(99)))), 3).await;
    change(None, Some(None), 4).await;
    directory.delete_device(tenant, device, by(5)).await.expect("gone");
    let rows = directory.rows(tenant, AuditFilter::default(), 100).await.expect("rows");
    let told: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.reason.as_str())).collect();
    let expected = [
        ("device.registered", "d"),
        ("device.changed", "e"),
        ("device.claiming_allowed_changed", "e"),
        ("device.code_set", "e"),
        ("device.code_deleted", "e"),
        ("device.deleted", "e"),
    ];
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row.device == Some(device)));
}

/// A field that is not named stays as it is.
pub async fn claim_settings_are_set_left_and_deleted(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let device = device(directory, tenant, "d").await.id;
    let change = async |claiming_allowed, claiming_data, ms| {
        let change = ClaimSettingsChange { claiming_allowed, claiming_data };
        directory.change_claim_settings(tenant, device, change, by(ms)).await.expect("changed");
        directory.claim_settings(tenant, device).await.expect("settings")
    };
    let none = directory.claim_settings(tenant, device).await.expect("settings");
    assert_eq!((none.claiming_allowed, none.claiming_data), (None, None));
    let code = (SecretDigest::from_bytes([7; 32]), at(99));
    let set = change(Some(Some(false)), Some(Some(code)), 1).await;
    assert_eq!((set.claiming_allowed, set.claiming_data), (Some((false, at(1))), Some((at(99), at(1)))));
    let left = change(Some(Some(true)), None, 2).await;
    assert_eq!((left.claiming_allowed, left.claiming_data), (Some((true, at(2))), Some((at(99), at(1)))));
    let deleted = change(None, Some(None), 3).await;
    assert_eq!((deleted.claiming_allowed, deleted.claiming_data), (Some((true, at(2))), None));
    let deleted = change(Some(None), None, 4).await;
    assert_eq!(deleted.claiming_allowed, None);
}

/// It would be void when its owner gives it back. What is there may go, and all else is set as ever.
pub async fn an_owned_device_takes_no_claiming_data(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let owner = customer(directory, tenant, "c").await;
    let device = device(directory, tenant, "d").await.id;
    directory.assign_by_admin(tenant, device, owner, UserId::random(), at(1)).await.expect("assigned");
    let change = |claiming_allowed, claiming_data, ms| {
        let change = ClaimSettingsChange { claiming_allowed, claiming_data };
        directory.change_claim_settings(tenant, device, change, by(ms))
    };
    let code = Some((SecretDigest::from_bytes([7; 32]), at(99)));
    let refused = change(Some(Some(false)), Some(code), 2).await;
    assert!(matches!(refused, Err(DirectoryError::InUse(_))), "{refused:?}");
    let settings = directory.claim_settings(tenant, device).await.expect("settings");
    assert_eq!((settings.claiming_allowed, settings.claiming_data), (None, None), "all or nothing");
    change(Some(Some(false)), Some(None), 3).await.expect("changed");
    assert_eq!(
        directory.claim_settings(tenant, device).await.expect("settings").claiming_allowed,
        Some((false, at(3)))
    );
}

/// Nor to another tenant's; twice to the same is no change. Each change of ownership is in the audit log.
pub async fn an_admin_gives_to_nobody_else_s_owner<D: AuditLog + Directory>(directory: &D) {
    let (here, there) = (tenant(directory, "here").await, tenant(directory, "there").await);
    let (first, second) = (customer(directory, here, "first").await, customer(directory, here, "second").await);
    let foreign = customer(directory, there, "foreign").await;
    let device = device(directory, here, "d").await.id;
    let assign = |customer, ms| directory.assign_by_admin(here, device, customer, UserId::random(), at(ms));
    assert_eq!(assign(foreign, 1).await.map(drop), Err(DirectoryError::NotFound("customer")));
    assert_eq!(assign(first, 2).await.expect("assigned").owner, Some(first));
    assert_eq!(assign(first, 3).await.expect("the same").owner, Some(first));
    assert_eq!(assign(second, 4).await.map(drop), Err(DirectoryError::Taken("owner")));
    let rows = directory.rows(here, AuditFilter::default(), 10).await.expect("rows");
    assert_eq!(rows.iter().filter(|row| row.action == "assign" && row.device == Some(device)).count(), 1);
    assert_eq!(directory.rows(there, AuditFilter::default(), 10).await.expect("rows"), []);
    assert_eq!(directory.rows(here, AuditFilter::after(rows.last().expect("a row").seq), 10).await.expect("rows"), []);
    let owned = directory.devices(here, Some(first), PageRequest { size: 10, ..PageRequest::default() }).await.unwrap();
    assert_eq!(owned.rows.iter().map(|row| row.id).collect::<Vec<DeviceId>>(), [device]);
}

/// Also a changed password ends what was signed in before it.
pub async fn a_refresh_token_works_once_and_its_copy_ends_the_family(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let draft = person(tenant, Authority::TenantAdmin, "x@example.com");
    let account = directory.create_account(draft, at(0)).await.expect("an account");
    let open = |digest: u8, family: u8| {
        let (digest, family) = ([digest; 32], [family; 16]);
        directory.open_session(RefreshSession { digest, account: account.id, family, expires_at: at(1000) })
    };
    let rotate = |from: u8, to: u8, ms| directory.rotate_session([from; 32], [to; 32], at(1000), at(ms));
    open(1, 1).await.expect("opened");
    open(10, 2).await.expect("opened");
    assert_eq!(rotate(1, 2, 1).await, Ok(RefreshUse::Rotated(account.id)));
    assert_eq!(rotate(2, 3, 2).await, Ok(RefreshUse::Rotated(account.id)));
    assert_eq!(rotate(1, 4, 3).await, Ok(RefreshUse::Replayed));
    for ended in [1, 2, 3, 4] {
        assert_eq!(rotate(ended, 5, 4).await, Ok(RefreshUse::Unknown), "{ended}");
    }
    assert_eq!(rotate(10, 11, 999).await, Ok(RefreshUse::Rotated(account.id)), "another family");
    assert_eq!(rotate(11, 12, 1000).await, Ok(RefreshUse::Unknown), "over");
    directory
        .open_session(RefreshSession { digest: [20; 32], account: account.id, family: [3; 16], expires_at: at(9000) })
        .await
        .expect("opened");
    directory.set_password(account.id, "other".to_owned()).await.expect("set");
    assert_eq!(rotate(20, 21, 1001).await, Ok(RefreshUse::Unknown));
    assert!(directory.account(account.id).await.expect("there").session_epoch > account.session_epoch);
}

/// The newest one only.
pub async fn an_activation_works_once_and_in_time(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let owner = customer(directory, tenant, "owner").await;
    let draft = AccountDraft { password_hash: None, ..person(tenant, Authority::CustomerUser(owner), "x@example.com") };
    let account = directory.create_account(draft, at(0)).await.expect("an account");
    let set = |digest: u8| directory.set_activation(tenant, account.id, [digest; 32], at(100));
    let activate = |digest: u8, ms| directory.activate([digest; 32], "hash".to_owned(), at(ms));
    set(1).await.expect("set");
    set(2).await.expect("set");
    assert_eq!(activate(1, 1).await.map(|found| found.is_some()), Ok(false), "an older one");
    assert_eq!(activate(2, 100).await.map(|found| found.is_some()), Ok(false), "too late");
    assert_eq!(activate(2, 99).await.expect("ok").map(|found| found.id), Some(account.id));
    assert_eq!(activate(2, 99).await.map(|found| found.is_some()), Ok(false), "spent");
    let (_, hash) = directory.account_by_email("x@example.com".to_owned()).await.expect("ok").expect("found");
    assert_eq!(hash.as_deref(), Some("hash"));
}

/// Repeat-safe to make; ending one that is not there is said.
pub async fn only_gateways_get_relations(directory: &dyn Directory) {
    let tenant = tenant(directory, "maker").await;
    let gateway = DeviceDraft { gateway: true, ..draft("gateway") };
    let gateway = directory.save_device(tenant, gateway, by(0)).await.expect("a device").0.id;
    let child = device(directory, tenant, "child").await.id;
    let refused = directory.relate(tenant, child, gateway, at(0)).await;
    assert!(matches!(refused, Err(DirectoryError::Refused(_))), "{refused:?}");
    let refused = directory.relate(tenant, gateway, gateway, at(0)).await;
    assert!(matches!(refused, Err(DirectoryError::Refused(_))), "{refused:?}");
    directory.relate(tenant, gateway, child, at(0)).await.expect("related");
    directory.relate(tenant, gateway, child, at(1)).await.expect("the same again");
    directory.unrelate(tenant, gateway, child).await.expect("ended");
    assert_eq!(directory.unrelate(tenant, gateway, child).await, Err(DirectoryError::NotFound("relation")));
}

/// By its time, by being removed, or with the account.
pub async fn an_api_key_acts_as_its_account_until_it_ends<D: AuditLog + Directory>(directory: &D) {
    let tenant = tenant(directory, "maker").await;
    let account = async |email| {
        let draft = person(tenant, Authority::TenantAdmin, email);
        directory.create_account(draft, at(0)).await.expect("an account").id
    };
    let (mine, other) = (account("x@example.com").await, account("y@example.com").await);
    let make = |account, digest: u8, expires_at| {
        let (name, digest) = (format!("key {digest}"), [digest; 32]);
        directory.create_api_key(ApiKeyDraft { account, name, digest, expires_at, most: 5 }, at(1))
    };
    let first = make(mine, 1, None).await.expect("a key");
    make(mine, 2, Some(at(100))).await.expect("a key");
    make(other, 3, None).await.expect("a key");
    let holder = async |digest: u8, ms| {
        let found = directory.api_key_holder([digest; 32], at(ms)).await.expect("an answer");
        found.map(|(account, expires_at)| (account.id, expires_at))
    };
    assert_eq!(holder(1, 2).await, Some((mine, None)));
    assert_eq!((holder(2, 99).await, holder(2, 100).await), (Some((mine, Some(at(100)))), None));
    assert_eq!(holder(4, 2).await, None);
    let names: Vec<String> = directory.api_keys(mine).await.expect("keys").into_iter().map(|key| key.name).collect();
    assert_eq!(names, ["key 1", "key 2"]);
    let not_found = Err(DirectoryError::NotFound("API key"));
    assert_eq!(directory.delete_api_key(other, first.id, at(3)).await, not_found, "another's");
    directory.delete_api_key(mine, first.id, at(3)).await.expect("gone");
    assert_eq!(directory.delete_api_key(mine, first.id, at(4)).await, not_found);
    assert_eq!(holder(1, 5).await, None);
    directory.delete_account(tenant, other).await.expect("gone");
    assert_eq!(holder(3, 5).await, None);
    for digest in 10..14 {
        make(mine, digest, None).await.expect("room for five");
    }
    assert!(matches!(make(mine, 14, None).await, Err(DirectoryError::Full { most: 5, .. })));
    let audited: Vec<String> = directory
        .rows(tenant, AuditFilter::default(), 1_000)
        .await
        .expect("rows")
        .into_iter()
        .map(|row| row.action)
        .collect();
    assert_eq!(audited.iter().filter(|action| *action == "api_key.deleted").count(), 1);
    assert_eq!(audited.iter().filter(|action| *action == "api_key.created").count(), 7);
}
