//! The contract of [`Applications`], and what listings and claim codes mean to [`DeviceRegistry`], rule by rule. [`all`]
//! runs every rule, each on an empty install.

use std::sync::Arc;

use claim::applications::{
    ApplicationChange, ApplicationDraft, Applications, By, CodeChange, DeviceChange, Identity, ListedDevice, NewCode,
    NewDevice, Place, RootKeys,
};
use claim::audit::{AuditFilter, AuditLog};
use claim::directory::{Directory, DirectoryError, PageRequest};
use claim::ports::{
    AssignOwner, Assignment, ClaimSubject, ClaimTarget, DeviceRegistry, Freshness, Outbox, ReleaseOwner,
};
use claim::{ClaimSecret, CustomerId, DeviceName, Eui64, Keyring, ListingId, Secret, SecretDigest, TenantId, UserId};

use crate::fixtures::{at, origin};

/// An install that an adapter's tests make.
pub trait Install: Applications + AuditLog + Directory + DeviceRegistry + Outbox {}

impl<T: Applications + AuditLog + Directory + DeviceRegistry + Outbox> Install for T {}

/// Runs every rule; `install` makes an empty one for each, which digests with `keyring`.
pub async fn all<I: Install>(keyring: impl Fn(&I) -> Arc<Keyring>, install: impl Fn() -> Arc<I>) {
    every_tenant_has_a_default_application_that_stays(&*install()).await;
    ids_and_identities_are_unique_where_they_must_be(&*install()).await;
    devices_made_by_name_are_listed_under_ids_of_their_own(&*install()).await;
    a_customer_has_so_many_applications_and_devices(&*install()).await;
    applications_of_others_do_not_exist(&*install()).await;
    let digesting = install();
    a_code_is_stored_shown_to_its_maker_and_deleted(&*digesting, &keyring(&digesting)).await;
    a_claim_spends_the_code_unless_the_application_keeps_it(&*install()).await;
    unauthorised_applications_give_nothing_away(&*install()).await;
    a_claim_lists_the_device_at_its_target_and_unclaiming_brings_it_home(&*install()).await;
    an_id_that_is_taken_or_kept_is_no_target(&*install()).await;
    a_device_is_found_by_what_is_printed_on_it(&*install()).await;
    owned_devices_take_no_code_and_stay(&*install()).await;
    deeds_are_audited_and_told(&*install()).await;
}

fn by(ms: i64) -> By {
    By { account: UserId::from_bytes([9; 16]), now: at(ms) }
}

fn id(text: &str) -> ListingId {
    ListingId::parse(text).expect("an id")
}

fn place(application: &str, device: &str) -> Place {
    Place { application: id(application), device: id(device) }
}

fn eui(last: u8) -> Eui64 {
    Eui64::from_bytes([0, 4, 0xa3, 0x0b, 0, 0x1c, 5, last])
}

fn code(text: &str) -> NewCode {
    NewCode { code: Secret::new(text.to_owned()), any_case: true, from: None, until: None }
}

fn device(listing: &str) -> NewDevice {
    NewDevice {
        listing: id(listing),
        name: None,
        label: None,
        identity: Identity::default(),
        claiming_allowed: None,
        code: None,
        root_keys: RootKeys::default(),
        root_keys_exposed: false,
        most: None,
    }
}

fn draft(listing: &str, customer: Option<CustomerId>) -> ApplicationDraft {
    ApplicationDraft {
        listing: id(listing),
        customer,
        claiming_authorized: true,
        invalidate_code_on_claim: None,
        most: None,
    }
}

const PAGE: PageRequest = PageRequest { size: 100, page: 0, text: None };

async fn tenant(install: &dyn Install, title: &str) -> TenantId {
    install.create_tenant(title.to_owned(), at(0)).await.expect("a tenant").id
}

async fn customer(install: &dyn Install, tenant: TenantId, title: &str) -> CustomerId {
    install.create_customer(tenant, title.to_owned(), None, at(0)).await.expect("a customer").id
}

async fn registered(install: &dyn Install, tenant: TenantId, device: NewDevice) -> ListedDevice {
    install.register(tenant, id("default"), device, by(1)).await.expect("a device")
}

async fn subject(install: &dyn Install, device: &ListedDevice) -> ClaimSubject {
    install.find(device.tenant, &device.name).await.expect("an answer").expect("the device")
}

async fn assign(
    install: &dyn Install,
    device: &ListedDevice,
    owner: CustomerId,
    target: Option<&ClaimTarget>,
    ms: i64,
) -> Assignment {
    let generation = subject(install, device).await.device.generation;
    let request = AssignOwner {
        tenant: device.tenant,
        device: device.device,
        owner,
        account: UserId::random(),
        proof: SecretDigest::from_bytes([1; 32]),
        freshness: Freshness::Generation(generation),
        allow_by_default: true,
        invalidate_code: true,
        target,
        retry: None,
        now: at(ms),
        origin: &origin(None),
    };
    install.assign_owner(request).await.expect("an answer")
}

async fn release(install: &dyn Install, device: &ListedDevice, ms: i64) {
    let request = ReleaseOwner {
        tenant: device.tenant,
        device: device.device,
        holder: None,
        account: UserId::random(),
        allow_again: false,
        now: at(ms),
        origin: &origin(None),
    };
    install.release_owner(request).await.expect("an answer");
}

/// Authorised.
pub async fn every_tenant_has_a_default_application_that_stays(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let application = install.application(tenant, id("default")).await.expect("there");
    assert!(application.claiming_authorized && application.customer.is_none());
    let refused = install.delete_application(tenant, id("default"), by(1)).await;
    assert!(matches!(refused, Err(DirectoryError::InUse(_))), "{refused:?}");
    install.create_application(tenant, draft("field", None), by(1)).await.expect("made");
    let all = install.applications(tenant, None, PAGE).await.expect("a page");
    assert_eq!(all.rows.iter().map(|row| row.listing.as_str()).collect::<Vec<_>>(), ["default", "field"]);
    install.delete_application(tenant, id("field"), by(2)).await.expect("gone");
    assert_eq!(install.applications(tenant, None, PAGE).await.expect("a page").total, 1);
}

/// An application's id in a tenant, a device's in an application, a DevEUI in the install.
pub async fn ids_and_identities_are_unique_where_they_must_be(install: &dyn Install) {
    let (here, there) = (tenant(install, "here").await, tenant(install, "there").await);
    let taken = |what| Err(DirectoryError::Taken(what));
    let again = install.create_application(here, draft("default", None), by(1)).await.map(drop);
    assert_eq!(again, taken("application id"));
    let identity = Identity { dev_eui: Some(eui(1)), external_id: Some("E-1".to_owned()), ..Identity::default() };
    let first = registered(install, here, NewDevice { identity: identity.clone(), ..device("pump-1") }).await;
    assert_eq!((first.name.as_str(), first.identity.clone()), ("pump-1", identity));
    let register = async |tenant, device| install.register(tenant, id("default"), device, by(2)).await.map(drop);
    assert_eq!(register(here, device("pump-1")).await, taken("device id"));
    let same_eui = Identity { dev_eui: Some(eui(1)), ..Identity::default() };
    assert_eq!(register(there, NewDevice { identity: same_eui, ..device("pump-9") }).await, taken("dev_eui"));
    let same = || Identity { external_id: Some("E-1".to_owned()), ..Identity::default() };
    assert_eq!(register(here, NewDevice { identity: same(), ..device("pump-2") }).await, taken("external_id"));
    assert_eq!(register(there, NewDevice { identity: same(), ..device("pump-2") }).await, Ok(()), "another tenant's");
    let same_name = NewDevice { name: Some(first.name.clone()), ..device("pump-3") };
    assert_eq!(register(here, same_name).await, taken("name"));
    assert_eq!(install.listed_in(here, id("default"), PAGE).await.expect("a page").total, 1, "nothing came of those");
}

/// In `default`, made from their names.
pub async fn devices_made_by_name_are_listed_under_ids_of_their_own(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let mut ids = Vec::new();
    for name in ["Pump 7", "pump 7", "PUMP-7", "泵"] {
        let draft = claim::directory::DeviceDraft {
            id: None,
            name: DeviceName::parse(name).expect("a name"),
            profile: None,
            profile_name: None,
            label: None,
            gateway: false,
            additional_info: None,
            credential: None,
        };
        install.save_device(tenant, draft, by(1)).await.expect("a device");
    }
    for device in install.listed_in(tenant, id("default"), PAGE).await.expect("a page").rows {
        assert_eq!(device.home, device.place);
        ids.push(device.home.device.to_string());
    }
    assert_eq!(ids, ["device-0", "pump-7", "pump-7-2", "pump-7-3"]);
}

/// The maker is not bounded by it.
pub async fn a_customer_has_so_many_applications_and_devices(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let (owner, other) = (customer(install, tenant, "owner").await, customer(install, tenant, "other").await);
    let make = async |name: &str, whose, most| {
        let draft = ApplicationDraft { most, ..draft(name, Some(whose)) };
        install.create_application(tenant, draft, by(1)).await.map(drop)
    };
    assert_eq!((make("one", owner, Some(2)).await, make("two", owner, Some(2)).await), (Ok(()), Ok(())));
    let full = |what, most| Err(DirectoryError::Full { what, most });
    assert_eq!(make("three", owner, Some(2)).await, full("applications of a customer", 2));
    assert_eq!((make("three", other, Some(2)).await, make("four", owner, None).await), (Ok(()), Ok(())));
    let register = async |application: &str, name: &str, most| {
        let device = NewDevice { most, ..device(name) };
        install.register(tenant, id(application), device, by(2)).await.map(drop)
    };
    assert_eq!(register("one", "pump-1", Some(2)).await, Ok(()));
    assert_eq!(register("two", "pump-2", Some(2)).await, Ok(()));
    assert_eq!(register("four", "pump-3", Some(2)).await, full("devices registered by a customer", 2));
    assert_eq!(register("three", "pump-4", Some(2)).await, Ok(()), "another's");
    assert_eq!(register("four", "pump-5", None).await, Ok(()));
}

/// Nor do their devices.
pub async fn applications_of_others_do_not_exist(install: &dyn Install) {
    let (here, there) = (tenant(install, "here").await, tenant(install, "there").await);
    install.create_application(there, draft("theirs", None), by(1)).await.expect("made");
    registered(install, there, device("pump-1")).await;
    let no_application = || Err(DirectoryError::NotFound("application"));
    assert_eq!(install.application(here, id("theirs")).await.map(drop), no_application());
    let change = ApplicationChange { claiming_authorized: Some(false), ..ApplicationChange::default() };
    assert_eq!(install.change_application(here, id("theirs"), change, by(2)).await.map(drop), no_application());
    assert_eq!(install.delete_application(here, id("theirs"), by(2)).await, no_application());
    assert_eq!(install.register(here, id("theirs"), device("pump-2"), by(2)).await.map(drop), no_application());
    let no_device = || Err(DirectoryError::NotFound("device"));
    let pump = || place("default", "pump-1");
    assert_eq!(install.listed(here, pump()).await.map(drop), no_device());
    assert_eq!(install.remove(here, pump(), by(2)).await, no_device());
    assert_eq!(
        install.change_code(here, pump(), CodeChange::Set(code("BEEF1234")), by(2)).await.map(drop),
        no_device()
    );
    assert_eq!(install.read_code(here, pump(), by(2)).await.map(drop), no_device());
    let foreign = customer(install, there, "owner").await;
    let made = install.create_application(here, draft("mine", Some(foreign)), by(2)).await.map(drop);
    assert_eq!(made, Err(DirectoryError::NotFound("customer")));
    assert!(install.application(there, id("theirs")).await.expect("there").claiming_authorized, "untouched");
}

/// The digest is the domain's; the generation moves with each change.
pub async fn a_code_is_stored_shown_to_its_maker_and_deleted(install: &dyn Install, keyring: &Keyring) {
    let tenant = tenant(install, "maker").await;
    let pump = registered(install, tenant, NewDevice { code: Some(code("BEEF1234")), ..device("pump-1") }).await;
    let digest =
        |text: &str| ClaimSecret::parse(text.to_owned()).expect("a secret").digest(keyring, tenant, pump.device);
    let before = subject(install, &pump).await;
    let stored = before.stored_code.expect("a code");
    assert_eq!((stored.digest, stored.any_case, stored.from, stored.until), (digest("BEEF1234"), true, None, None));
    assert_eq!(install.read_code(tenant, pump.home.clone(), by(2)).await.expect("a code").expose(), "BEEF1234");

    let window = CodeChange::Window { from: Some(at(10)), until: Some(at(20)) };
    let shown = install.change_code(tenant, pump.home.clone(), window, by(3)).await.expect("changed");
    let view = shown.code.expect("a code");
    assert_eq!((view.from, view.until, view.set_at), (Some(at(10)), Some(at(20)), at(1)), "the same code");
    let after = subject(install, &pump).await;
    assert_eq!(after.stored_code.map(|code| code.digest), Some(digest("BEEF1234")));
    assert!(after.device.generation > before.device.generation, "a claim under way must look again");

    let next = NewCode { any_case: false, ..code("other1234") };
    install.change_code(tenant, pump.home.clone(), CodeChange::Set(next), by(4)).await.expect("changed");
    let stored = subject(install, &pump).await.stored_code.expect("a code");
    assert_eq!((stored.digest, stored.any_case, stored.from), (digest("other1234"), false, None));
    let deleted = install.change_code(tenant, pump.home.clone(), CodeChange::Delete, by(5)).await.expect("changed");
    assert_eq!(deleted.code, None);
    assert_eq!(subject(install, &pump).await.stored_code, None);
    for change in [CodeChange::Delete, CodeChange::Window { from: None, until: None }] {
        let none = install.change_code(tenant, pump.home.clone(), change, by(6)).await.map(drop);
        assert_eq!(none, Err(DirectoryError::NotFound("claim code")));
    }
    assert_eq!(
        install.read_code(tenant, pump.home, by(6)).await.map(drop),
        Err(DirectoryError::NotFound("claim code"))
    );
}

/// Kept, it sleeps until the device is given back.
pub async fn a_claim_spends_the_code_unless_the_application_keeps_it(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let owner = customer(install, tenant, "owner").await;
    for (ms, keep, left) in [(10, None, false), (20, Some(true), false), (30, Some(false), true)] {
        let change = ApplicationChange { invalidate_code_on_claim: Some(keep), ..ApplicationChange::default() };
        install.change_application(tenant, id("default"), change, by(ms)).await.expect("changed");
        let pump = NewDevice { code: Some(code("BEEF1234")), ..device(&format!("pump-{ms}")) };
        let pump = registered(install, tenant, pump).await;
        assert!(matches!(assign(install, &pump, owner, None, ms).await, Assignment::Assigned { .. }));
        release(install, &pump, ms + 1).await;
        assert_eq!(subject(install, &pump).await.stored_code.is_some(), left, "{keep:?}");
        let shown = install.at_home(tenant, pump.home.clone()).await.expect("there");
        assert_eq!(shown.code.is_some(), left);
        assert_eq!(install.read_code(tenant, pump.home, by(ms + 2)).await.is_ok(), left);
    }
}

/// Not even with everything else right; what was claimed before stays.
pub async fn unauthorised_applications_give_nothing_away(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let owner = customer(install, tenant, "owner").await;
    let (first, second) =
        (registered(install, tenant, device("pump-1")).await, registered(install, tenant, device("pump-2")).await);
    assert!(matches!(assign(install, &first, owner, None, 2).await, Assignment::Assigned { .. }));
    let authorize = async |authorized, ms| {
        let change = ApplicationChange { claiming_authorized: Some(authorized), ..ApplicationChange::default() };
        install.change_application(tenant, id("default"), change, by(ms)).await.expect("changed");
    };
    assert!(install.device(second.device).await.unwrap().expect("there").authorized);
    authorize(false, 3).await;
    assert!(
        !install.device(second.device).await.unwrap().expect("there").authorized,
        "also where it was looked up before"
    );
    assert_eq!(assign(install, &second, owner, None, 4).await, Assignment::NotAllowed);
    assert_eq!(subject(install, &first).await.device.owner, Some(owner));
    authorize(true, 5).await;
    let freeze = async |frozen, ms| {
        let change = DeviceChange { frozen: Some(frozen), ..DeviceChange::default() };
        install.change_device(tenant, second.home.clone(), change, by(ms)).await.expect("changed");
    };
    freeze(true, 6).await;
    assert!(install.device(second.device).await.unwrap().expect("there").frozen);
    assert_eq!(assign(install, &second, owner, None, 7).await, Assignment::NotAllowed, "paused");
    freeze(false, 8).await;
    let proved = subject(install, &second).await.device.generation;
    let change = DeviceChange { presence: Some(true), ..DeviceChange::default() };
    install.change_device(tenant, second.home.clone(), change, by(9)).await.expect("changed");
    assert!(subject(install, &second).await.device.generation > proved, "what was proved before must be proved again");
    assert!(matches!(assign(install, &second, owner, None, 10).await, Assignment::Assigned { .. }));
}

/// Without a target only the owner changes.
pub async fn a_claim_lists_the_device_at_its_target_and_unclaiming_brings_it_home(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let owner = customer(install, tenant, "owner").await;
    install.create_application(tenant, draft("my-house", Some(owner)), by(1)).await.expect("made");
    let pump = registered(install, tenant, device("pump-1")).await;
    assert!(matches!(assign(install, &pump, owner, None, 2).await, Assignment::Assigned { .. }));
    assert_eq!(install.at_home(tenant, pump.home.clone()).await.expect("there").place, pump.home);
    release(install, &pump, 3).await;
    for (ms, device, found) in [(10, None, "pump-1"), (20, Some(id("hall")), "hall")] {
        let target = ClaimTarget { application: id("my-house"), device };
        assert!(matches!(assign(install, &pump, owner, Some(&target), ms).await, Assignment::Assigned { .. }));
        let listed = install.listed(tenant, place("my-house", found)).await.expect("listed there");
        assert_eq!(install.listed_device(tenant, pump.device).await, Ok(listed.clone()));
        assert_eq!((listed.device, listed.home.clone(), listed.owner), (pump.device, pump.home.clone(), Some(owner)));
        assert_eq!(install.listed(tenant, pump.home.clone()).await.map(drop), Err(DirectoryError::NotFound("device")));
        release(install, &pump, ms + 1).await;
        assert_eq!(install.listed(tenant, pump.home.clone()).await.expect("home again").device, pump.device);
    }
}

/// Somebody's listing, or the home of a device that is away; nor is another's application one.
pub async fn an_id_that_is_taken_or_kept_is_no_target(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let (owner, other) = (customer(install, tenant, "owner").await, customer(install, tenant, "other").await);
    for (name, whose) in [("my-house", owner), ("my-hut", owner), ("their-house", other)] {
        install.create_application(tenant, draft(name, Some(whose)), by(1)).await.expect("made");
    }
    let (first, second) =
        (registered(install, tenant, device("pump-1")).await, registered(install, tenant, device("pump-2")).await);
    let target =
        |application: &str, device: &str| ClaimTarget { application: id(application), device: Some(id(device)) };
    let hall = target("my-house", "hall");
    assert!(matches!(assign(install, &first, owner, Some(&hall), 2).await, Assignment::Assigned { .. }));
    assert_eq!(assign(install, &second, owner, Some(&hall), 3).await, Assignment::IdTaken);
    let kept = install.register(tenant, id("default"), device("pump-1"), by(4)).await.map(drop);
    assert_eq!(kept, Err(DirectoryError::Taken("device id")), "its home is kept for it");
    // A device at home in an owner's application, claimed into another one: its home there is kept too.
    let mine = install.register(tenant, id("my-house"), device("mine-1"), by(4)).await.expect("a device");
    let away = target("my-hut", "mine-1");
    assert!(matches!(assign(install, &mine, owner, Some(&away), 5).await, Assignment::Assigned { .. }));
    assert_eq!(assign(install, &second, owner, Some(&target("my-house", "mine-1")), 6).await, Assignment::IdTaken);
    for nowhere in [target("their-house", "hall"), target("default", "hall"), target("no-house", "hall")] {
        assert_eq!(assign(install, &second, owner, Some(&nowhere), 7).await, Assignment::NoTarget);
    }
    // Whose it is says more than that the id is taken.
    assert!(matches!(assign(install, &first, other, Some(&hall), 8).await, Assignment::Owned { .. }));
}

/// By DevEUI, and by JoinEUI where it is given.
pub async fn a_device_is_found_by_what_is_printed_on_it(install: &dyn Install) {
    let (here, there) = (tenant(install, "here").await, tenant(install, "there").await);
    let identity = Identity { dev_eui: Some(eui(1)), join_eui: Some(eui(9)), ..Identity::default() };
    let pump = registered(install, here, NewDevice { identity, ..device("pump-1") }).await;
    let find = async |tenant, dev_eui, join_eui| install.name_of(tenant, dev_eui, join_eui).await.expect("an answer");
    assert_eq!(find(here, eui(1), None).await, Some(pump.name.clone()));
    assert_eq!(find(here, eui(1), Some(eui(9))).await, Some(pump.name));
    assert_eq!(find(here, eui(1), Some(eui(8))).await, None);
    assert_eq!(find(here, eui(2), None).await, None);
    assert_eq!(find(there, eui(1), None).await, None);
}

/// Until they are given back.
pub async fn owned_devices_take_no_code_and_stay(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    let owner = customer(install, tenant, "owner").await;
    let pump = registered(install, tenant, device("pump-1")).await;
    assert!(matches!(assign(install, &pump, owner, None, 2).await, Assignment::Assigned { .. }));
    let set = |ms| install.change_code(tenant, pump.home.clone(), CodeChange::Set(code("BEEF1234")), by(ms));
    assert!(matches!(set(3).await, Err(DirectoryError::InUse(_))));
    assert!(matches!(install.remove(tenant, pump.home.clone(), by(3)).await, Err(DirectoryError::InUse(_))));
    release(install, &pump, 4).await;
    set(5).await.expect("stored");
    install.remove(tenant, pump.home.clone(), by(6)).await.expect("gone");
    assert_eq!(install.at_home(tenant, pump.home).await.map(drop), Err(DirectoryError::NotFound("device")));
}

/// Each once; reading a code back is in the audit log only.
pub async fn deeds_are_audited_and_told(install: &dyn Install) {
    let tenant = tenant(install, "maker").await;
    install.create_application(tenant, draft("field", None), by(1)).await.expect("made");
    for authorized in [false, false, true] {
        let change = ApplicationChange { claiming_authorized: Some(authorized), ..ApplicationChange::default() };
        install.change_application(tenant, id("field"), change, by(2)).await.expect("changed");
    }
    let home = install.register(tenant, id("field"), device("pump-1"), by(3)).await.expect("a device").home;
    install.change_code(tenant, home.clone(), CodeChange::Set(code("BEEF1234")), by(4)).await.expect("set");
    install.read_code(tenant, home.clone(), by(5)).await.expect("read");
    install.change_code(tenant, home.clone(), CodeChange::Delete, by(6)).await.expect("deleted");
    let change = DeviceChange { claiming_allowed: Some(Some(false)), ..DeviceChange::default() };
    install.change_device(tenant, home.clone(), change, by(7)).await.expect("changed");
    for frozen in [true, true, false] {
        let change =
            DeviceChange { frozen: Some(frozen), reason: Some("stolen lorry".to_owned()), ..DeviceChange::default() };
        install.change_device(tenant, home.clone(), change, by(7)).await.expect("changed");
    }
    let change = DeviceChange { presence: Some(true), ..DeviceChange::default() };
    install.change_device(tenant, home.clone(), change, by(7)).await.expect("changed");
    install.note_forced_release(tenant, home.clone(), "court order 7".to_owned(), by(7)).await.expect("noted");
    install.remove(tenant, home, by(8)).await.expect("gone");
    let told = [
        "application.created",
        "application.claiming_unauthorized",
        "application.claiming_authorized",
        "device.registered",
        "device.code_set",
        "device.code_deleted",
        "device.claiming_allowed_changed",
        "device.frozen",
        "device.unfrozen",
        "device.presence_changed",
        "device.claim_force_released",
        "device.deleted",
    ];
    let rows = install.rows(tenant, AuditFilter::default(), 100).await.expect("rows");
    let reasons: Vec<&str> =
        rows.iter().filter(|row| row.reason.contains(' ')).map(|row| row.reason.as_str()).collect();
    assert_eq!(reasons, ["stolen lorry", "stolen lorry", "court order 7"]);
    let audited: Vec<String> = rows.into_iter().map(|row| row.action).collect();
    let mut expected = told.to_vec();
    expected.insert(5, "device.code_read");
    assert_eq!(audited, expected);
    let events = install.tail(0, 100).await.expect("events");
    let heard: Vec<&str> = events
        .iter()
        .filter_map(|event| match event.kind {
            claim::event::OutboxKind::Maker(deed) => Some(deed.name()),
            _ => None,
        })
        .collect();
    assert_eq!(heard, told);
}
