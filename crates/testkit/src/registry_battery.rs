//! The contract of [`DeviceRegistry`], rule by rule: ownership, the fence, races, children of gateways, retry keys.

use std::sync::Arc;

use claim::confirmation::ConfirmOutcome;
use claim::event::Evidence;
use claim::policy::GatewayScope;
use claim::ports::{
    AssignOwner, Assignment, Child, DeviceRegistry, Freshness, PortFuture, Release, ReleaseOwner, ResolveChildren,
    RetryKey, VoidPending,
};
use claim::{CustomerId, DeviceId, DeviceName, Keyring, Origin, SecretDigest, TenantId, Timestamp, UserId};

use crate::fixtures::{at, origin};

/// How an adapter's tests make what the port itself cannot.
pub trait Stage: Send + Sync {
    /// The adapter.
    fn registry(&self) -> Arc<dyn DeviceRegistry>;
    /// The keyring it digests credentials with.
    fn keyring(&self) -> Arc<Keyring>;
    /// A new tenant.
    fn tenant(&self) -> PortFuture<'_, TenantId>;
    /// A new customer of a tenant.
    fn customer(&self, tenant: TenantId) -> PortFuture<'_, CustomerId>;
    /// A new device with an access token.
    fn device(&self, tenant: TenantId, name: String, token: String) -> PortFuture<'_, DeviceId>;
    /// How many milliseconds a release puts the fence ahead of its clock: [`claim::ports::ALLOWED_SKEW`] where nodes share
    /// the registry.
    fn ahead(&self) -> i64 {
        0
    }
}

const SECRET: [u8; 32] = [1; 32];

struct Try {
    tenant: TenantId,
    device: DeviceId,
    owner: CustomerId,
    account: UserId,
    freshness: Freshness,
    allow_by_default: bool,
    now: Timestamp,
    retry: Option<RetryKey>,
    origin: Origin,
}

impl Try {
    fn new(tenant: TenantId, device: DeviceId, owner: CustomerId, now: i64) -> Self {
        Self {
            tenant,
            device,
            owner,
            account: UserId::random(),
            freshness: Freshness::ReceivedAt(at(now)),
            allow_by_default: true,
            now: at(now),
            retry: None,
            origin: origin(None),
        }
    }

    async fn assign(&self, registry: &dyn DeviceRegistry) -> Assignment {
        let request = AssignOwner {
            tenant: self.tenant,
            device: self.device,
            owner: self.owner,
            account: self.account,
            proof: SecretDigest::from_bytes(SECRET),
            freshness: self.freshness,
            allow_by_default: self.allow_by_default,
            invalidate_code: true,
            target: None,
            retry: self.retry.as_ref(),
            now: self.now,
            origin: &self.origin,
        };
        registry.assign_owner(request).await.expect("the store answers")
    }

    async fn release(&self, registry: &dyn DeviceRegistry, holder: Option<CustomerId>, now: i64) -> Release {
        let request = ReleaseOwner {
            tenant: self.tenant,
            device: self.device,
            holder,
            account: self.account,
            allow_again: false,
            now: at(now),
            origin: &self.origin,
        };
        registry.release_owner(request).await.expect("the store answers")
    }
}

/// Runs every rule.
pub async fn all(stage: &dyn Stage) {
    a_credential_leads_to_its_device_and_nowhere_else(stage).await;
    names_are_looked_up_within_their_tenant(stage).await;
    an_unowned_device_is_assigned_once(stage).await;
    evidence_at_or_before_the_fence_is_stale(stage).await;
    a_claim_by_code_moves_the_fence(stage).await;
    what_is_made_void_wins_no_more(stage).await;
    a_code_wins_only_with_the_generation_it_was_read_at(stage).await;
    where_claiming_is_not_allowed_nothing_is_assigned(stage).await;
    only_the_holder_or_the_admin_releases(stage).await;
    an_answer_is_remembered_with_its_claim(stage).await;
    children_are_made_related_and_counted(stage).await;
    owners_race(stage, 8, 200).await;
}

/// By token; the standing is the device's.
pub async fn a_credential_leads_to_its_device_and_nowhere_else(stage: &dyn Stage) {
    let (registry, tenant) = (stage.registry(), stage.tenant().await);
    let token = format!("token-{}", UserId::random().uuid());
    let device = stage.device(tenant, "by token".to_owned(), token.clone()).await;
    for _ in 0..2 {
        let digest = stage.keyring().access_token(&token);
        let holder = registry.find_credential(digest).await.expect("an answer").expect("the device");
        assert_eq!((holder.device.id, holder.device.tenant), (device, tenant));
        let unknown = stage.keyring().access_token(&format!("{token}x"));
        assert!(registry.find_credential(unknown).await.expect("an answer").is_none());
    }
    let standing = registry.device(device).await.expect("an answer").expect("the device");
    assert_eq!((standing.name.as_str(), standing.owner, standing.generation), ("by token", None, 0));
    assert!(registry.device(DeviceId::random()).await.expect("an answer").is_none());
}

/// The same name in two tenants is two devices.
pub async fn names_are_looked_up_within_their_tenant(stage: &dyn Stage) {
    let registry = stage.registry();
    let (here, there, nowhere) = (stage.tenant().await, stage.tenant().await, stage.tenant().await);
    let name = DeviceName::parse("same name").expect("a name");
    let mut found = Vec::new();
    for tenant in [here, there] {
        let token = format!("token-{}", UserId::random().uuid());
        let device = stage.device(tenant, "same name".to_owned(), token).await;
        let subject = registry.find(tenant, &name).await.expect("an answer").expect("the device");
        assert_eq!(subject.device.id, device);
        found.push(device);
    }
    assert_ne!(found[0], found[1]);
    assert!(registry.find(nowhere, &name).await.expect("an answer").is_none());
    let foreign = Try::new(there, found[0], stage.customer(there).await, 1);
    assert_eq!(foreign.assign(&*registry).await, Assignment::Gone, "another tenant's device does not exist");
    assert_eq!(foreign.release(&*registry, None, 2).await, Release::Gone);
}

async fn fresh(stage: &dyn Stage) -> (TenantId, DeviceId, CustomerId) {
    let tenant = stage.tenant().await;
    let name = format!("device {}", UserId::random().uuid());
    let token = format!("token-{}", UserId::random().uuid());
    (tenant, stage.device(tenant, name, token).await, stage.customer(tenant).await)
}

/// The row says who, since when and by which secret; a second one changes nothing, and the standing is new at once.
pub async fn an_unowned_device_is_assigned_once(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    registry.device(device).await.expect("an answer").expect("known, perhaps cached");
    let first = Try::new(tenant, device, alice, 10);
    assert_eq!(first.assign(&*registry).await, Assignment::Assigned { claimed_at: at(10), generation: 1 });
    let standing = registry.device(device).await.expect("an answer").expect("the device");
    assert_eq!((standing.owner, standing.claimed_at, standing.generation), (Some(alice), Some(at(10)), 1));
    let owned = Assignment::Owned {
        owner: alice,
        proof: Some(SecretDigest::from_bytes(SECRET)),
        claimed_at: at(10),
        generation: 1,
    };
    let bob = stage.customer(tenant).await;
    assert_eq!(Try::new(tenant, device, bob, 20).assign(&*registry).await, owned);
    assert_eq!(Try::new(tenant, device, alice, 30).assign(&*registry).await, owned);
}

/// Strictly later than every change of ownership before.
pub async fn evidence_at_or_before_the_fence_is_stale(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let mut claim = Try::new(tenant, device, alice, 100);
    claim.assign(&*registry).await;
    let fence = 200 + stage.ahead();
    assert_eq!(
        claim.release(&*registry, Some(alice), 200).await,
        Release::Released { previous: alice, fence: at(fence) }
    );
    for received in [50, 100, 199, 200, fence - 1, fence] {
        claim.freshness = Freshness::ReceivedAt(at(received));
        claim.now = at(300);
        assert_eq!(claim.assign(&*registry).await, Assignment::Stale, "{received}");
    }
    claim.freshness = Freshness::ReceivedAt(at(fence + 1));
    assert!(matches!(claim.assign(&*registry).await, Assignment::Assigned { .. }));
    // A release by a clock behind the fence does not move it back.
    let Release::Released { fence: moved, .. } = claim.release(&*registry, None, 1).await else { panic!("released") };
    assert_eq!(moved, at(300.max(fence + 1)));
}

/// Void are the claims up to the fence; an owner is untouched, and so is what comes after.
pub async fn what_is_made_void_wins_no_more(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let void = async |tenant, until: i64, now: i64| {
        let (account, origin) = (UserId::random(), origin(None));
        let request = VoidPending { tenant, device, until: at(until), account, now: at(now), origin: &origin };
        registry.void_pending(request).await.expect("written")
    };
    assert_eq!(void(stage.tenant().await, 100, 100).await, None, "another tenant's");
    assert_eq!(void(tenant, 100, 90).await, Some(at(100)));
    assert_eq!(void(tenant, 50, 110).await, Some(at(100)), "it does not move back");
    assert_eq!(registry.device(device).await.expect("an answer").expect("it").claim_reset_at, Some(at(100)));
    let mut claim = Try::new(tenant, device, alice, 120);
    claim.freshness = Freshness::ReceivedAt(at(100));
    assert_eq!(claim.assign(&*registry).await, Assignment::Stale);
    claim.freshness = Freshness::ReceivedAt(at(101));
    assert!(matches!(claim.assign(&*registry).await, Assignment::Assigned { .. }));
    assert_eq!(void(tenant, 200, 200).await, None, "it has an owner");
    assert_eq!(registry.device(device).await.expect("an answer").expect("it").owner, Some(alice));
}

/// A claim by code has no announcement of its own: what was announced before it, or meanwhile by a clock that leads, is void.
pub async fn a_claim_by_code_moves_the_fence(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let mut claim = Try::new(tenant, device, alice, 10);
    claim.freshness = Freshness::Generation(0);
    assert!(matches!(claim.assign(&*registry).await, Assignment::Assigned { .. }));
    let standing = registry.device(device).await.expect("an answer").expect("it");
    assert_eq!(standing.claim_reset_at, Some(at(10 + stage.ahead())));
}

/// A code that was changed or spent since it was read does not win.
pub async fn a_code_wins_only_with_the_generation_it_was_read_at(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let mut claim = Try::new(tenant, device, alice, 10);
    claim.freshness = Freshness::Generation(7);
    assert_eq!(claim.assign(&*registry).await, Assignment::Stale);
    claim.freshness = Freshness::Generation(0);
    assert!(matches!(claim.assign(&*registry).await, Assignment::Assigned { generation: 1, .. }));
    claim.release(&*registry, None, 20).await;
    assert_eq!(claim.assign(&*registry).await, Assignment::Stale, "the same evidence again");
}

/// Asked inside the write.
pub async fn where_claiming_is_not_allowed_nothing_is_assigned(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let mut claim = Try::new(tenant, device, alice, 10);
    claim.allow_by_default = false;
    assert_eq!(claim.assign(&*registry).await, Assignment::NotAllowed);
    assert_eq!(registry.device(device).await.expect("an answer").expect("the device").owner, None);
}

/// Anyone else changes nothing; the admin's word on an unowned device moves the fence.
pub async fn only_the_holder_or_the_admin_releases(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let claim = Try::new(tenant, device, alice, 10);
    assert_eq!(claim.release(&*registry, Some(alice), 5).await, Release::Unowned { fence: None });
    claim.assign(&*registry).await;
    let bob = stage.customer(tenant).await;
    assert_eq!(claim.release(&*registry, Some(bob), 20).await, Release::NotHolder);
    assert_eq!(registry.device(device).await.expect("an answer").expect("the device").owner, Some(alice));
    assert!(
        matches!(claim.release(&*registry, None, 20).await, Release::Released { previous, .. } if previous == alice)
    );
    assert_eq!(claim.release(&*registry, None, 30).await, Release::Unowned { fence: Some(at(30 + stage.ahead())) });
}

/// In the claim's own transaction; the first answer stays.
pub async fn an_answer_is_remembered_with_its_claim(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, device, alice) = fresh(stage).await;
    let mut claim = Try::new(tenant, device, alice, 10);
    let key = RetryKey { account: claim.account, key: [5; 32], request: [6; 32] };
    assert_eq!(registry.remembered(&key).await, Ok(None));
    claim.retry = Some(key);
    claim.assign(&*registry).await;
    let remembered = registry.remembered(&key).await.expect("an answer").expect("remembered");
    assert_eq!(remembered.request, [6; 32]);
    let expected =
        ConfirmOutcome::Claimed { device, claimed_at: at(10), generation: 1, evidence: Evidence::PendingClaim };
    assert_eq!(ConfirmOutcome::recall(&remembered.answer), Some(expected));
    registry.remember(&key, "another".to_owned(), at(11)).await.expect("an answer");
    assert_eq!(registry.remembered(&key).await.expect("an answer"), Some(remembered));
    let other = RetryKey { account: UserId::random(), ..key };
    assert_eq!(registry.remembered(&other).await, Ok(None), "keys are an account's own");
}

/// Unknown names are made, unowned and related, within the quotas; others' devices are not touched.
pub async fn children_are_made_related_and_counted(stage: &dyn Stage) {
    let registry = stage.registry();
    let (tenant, gateway, _) = fresh(stage).await;
    let token = format!("token-{}", UserId::random().uuid());
    stage.device(tenant, "somebody's".to_owned(), token).await;
    let resolve = async |names: &[&str], scope, now: i64| {
        let names = names.iter().map(|name| DeviceName::parse(name).expect("a name")).collect();
        let (profile, new_devices) = (None, (3, 4));
        let request = ResolveChildren { tenant, gateway, scope, names, profile, new_devices, now: at(now) };
        registry.resolve_children(request).await.expect("an answer")
    };
    let made = |child: &Child| match child {
        Child::Device { device, created } => Some((device.id, device.owner, *created)),
        Child::Unrelated | Child::NoRoom => None,
    };
    let first = resolve(&["a", "somebody's", "b"], GatewayScope::Related, 0).await;
    assert!(matches!(first[1], Child::Unrelated));
    let (a, owner, created) = made(&first[0]).expect("made");
    assert_eq!((owner, created), (None, true));
    let again = resolve(&["a"], GatewayScope::Related, 1).await;
    assert_eq!(made(&again[0]), Some((a, None, false)));
    assert_eq!(*registry.gateways_of(a).await.expect("an answer"), [gateway]);
    let full = resolve(&["c", "d"], GatewayScope::Related, 2).await;
    assert!(made(&full[0]).is_some() && matches!(full[1], Child::NoRoom), "three a day");
    let day = 24 * 3_600_000;
    let next = resolve(&["d", "e"], GatewayScope::Related, day + 3).await;
    assert!(made(&next[0]).is_some() && matches!(next[1], Child::NoRoom), "four in all");
    let any = resolve(&["somebody's"], GatewayScope::Tenant, day + 4).await;
    assert!(made(&any[0]).is_some(), "with scope tenant any name of the tenant will do");
}

/// Each device has exactly one winner, and it is who the row says.
pub async fn owners_race(stage: &dyn Stage, owners: usize, devices: usize) {
    let registry = stage.registry();
    let tenant = stage.tenant().await;
    let mut customers = Vec::new();
    for _ in 0..owners {
        customers.push(stage.customer(tenant).await);
    }
    let mut ids = Vec::new();
    for n in 0..devices {
        let token = format!("token-{}", UserId::random().uuid());
        ids.push(stage.device(tenant, format!("raced {n}"), token).await);
    }
    let ids = Arc::new(ids);
    let mut racers = tokio::task::JoinSet::new();
    for customer in customers {
        let (registry, ids) = (Arc::clone(&registry), Arc::clone(&ids));
        racers.spawn(async move {
            let mut won = Vec::new();
            for &device in ids.iter() {
                if let Assignment::Assigned { .. } = Try::new(tenant, device, customer, 1).assign(&*registry).await {
                    won.push((device, customer));
                }
            }
            won
        });
    }
    let won: Vec<(DeviceId, CustomerId)> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), devices, "one winner each");
    for (device, customer) in won {
        let standing = registry.device(device).await.expect("an answer").expect("the device");
        assert_eq!((standing.owner, standing.generation), (Some(customer), 1));
    }
}
