//! The domain against a reference model: whatever is submitted, guessed, replayed, lost and repeated, the model knows who
//! owns what and which evidence still works.

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, DeviceRef, UnclaimOutcome};
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::ports::PendingClaim;
use claim::{
    Actor, BodyFormat, ClaimSecret, CustomerId, DeviceCredential, DeviceId, Eui64, Timestamp, Transport, UserId,
};
use proptest::prelude::*;
use testkit::{World, at, origin};

const OWNERS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Submit {
        device: usize,
        secret: u8,
        lifetime: u32,
    },
    Batch {
        secret: u8,
    },
    Confirm {
        owner: usize,
        device: usize,
        secret: u8,
        /// Typed in upper case.
        loud: bool,
        /// Asked for by its DevEUI.
        by_eui: bool,
    },
    Unclaim {
        who: usize,
        device: usize,
    },
    SetCode {
        device: usize,
        secret: u8,
        from: i64,
        length: i64,
        /// A claim code without lower-case letters, and not `claimingData`.
        upper: bool,
    },
    ClearCode {
        device: usize,
    },
    Maker {
        device: usize,
        rule: Rule,
        on: bool,
    },
    Pass {
        ms: i64,
    },
    /// What a journal or failover may bring back.
    Replay {
        device: usize,
    },
    LoseConsumes(bool),
}

/// What a maker may say of a device.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Authorized,
    Frozen,
    Presence,
}

fn op() -> impl Strategy<Value = Op> {
    let device = 0..3usize;
    prop_oneof![
        4 => (device.clone(), 0..3u8, 1..400_000u32)
            .prop_map(|(device, secret, lifetime)| Op::Submit { device, secret, lifetime }),
        1 => (0..3u8).prop_map(|secret| Op::Batch { secret }),
        6 => (0..OWNERS, device.clone(), 0..3u8, prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(owner, device, secret, loud, by_eui)| Op::Confirm { owner, device, secret, loud, by_eui }),
        2 => (0..=OWNERS, device.clone()).prop_map(|(who, device)| Op::Unclaim { who, device }),
        2 => (device.clone(), 0..3u8, -100_000..100_000i64, 0..200_000i64, any::<bool>())
            .prop_map(|(device, secret, from, length, upper)| Op::SetCode { device, secret, from, length, upper }),
        1 => device.clone().prop_map(|device| Op::ClearCode { device }),
        // Mostly as it is without: claims must go on happening.
        2 => (device.clone(), prop_oneof![Just(Rule::Authorized), Just(Rule::Frozen), Just(Rule::Presence)], any::<bool>())
            .prop_map(|(device, rule, on)| Op::Maker { device, rule, on }),
        4 => (0..300_000i64).prop_map(|ms| Op::Pass { ms }),
        2 => device.prop_map(|device| Op::Replay { device }),
        1 => any::<bool>().prop_map(Op::LoseConsumes),
    ]
}

/// A device as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    owner: Option<usize>,
    /// Secret, end, whether the device itself said it. Spent ones are none.
    pending: Option<(u8, Timestamp, bool)>,
    /// Secret, window, whether in upper case.
    code: Option<(u8, Timestamp, Timestamp, bool)>,
    authorized: bool,
    frozen: bool,
    presence: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self { owner: None, pending: None, code: None, authorized: true, frozen: false, presence: false }
    }
}

impl Known {
    fn open(&self) -> bool {
        self.owner.is_none() && self.authorized && !self.frozen
    }
}

struct Play {
    world: World,
    devices: [DeviceId; 3],
    owners: Vec<Actor>,
    admin: Actor,
    model: [Known; 3],
    /// Every claim there ever was, for replays.
    history: Vec<PendingClaim>,
    now: i64,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new();
        // Budgets have tests of their own; here they would only hide what secrets do.
        world.budgets.per_account_and_device = u32::MAX;
        world.budgets.per_account = u32::MAX;
        world.budgets.per_device = u32::MAX;
        let gateway = world.registry.add_gateway(world.tenant, "gateway", "gateway");
        let devices = [0, 1, 2].map(|n| {
            let device = world.registry.add_device_with_token(world.tenant, &format!("d{n}"), &format!("t{n}"));
            world.registry.relate(gateway, device);
            world.registry.set_eui(device, eui(n));
            device
        });
        let actor =
            |authority| Actor { account: UserId::random(), tenant: world.tenant, authority, grants: Grants::default() };
        let owners = (0..OWNERS).map(|_| actor(Authority::CustomerUser(CustomerId::random()))).collect();
        let admin = actor(Authority::TenantAdmin);
        Self { world, devices, owners, admin, model: Default::default(), history: Vec::new(), now: 0 }
    }

    fn live(&self, device: usize) -> Option<(u8, Timestamp, bool)> {
        self.model[device].pending.filter(|(_, until, _)| at(self.now) < *until)
    }

    async fn play(&mut self, op: &Op) -> Result<(), TestCaseError> {
        // Two changes never share an instant, or the fence could not tell them apart.
        self.now += 1;
        match *op {
            Op::Submit { device, secret, lifetime } => self.submit(device, secret, lifetime).await?,
            Op::Batch { secret } => self.batch(secret).await?,
            Op::Confirm { owner, device, secret, loud, by_eui } => {
                self.confirm(owner, device, secret, loud, by_eui).await?;
            }
            Op::Unclaim { who, device } => self.unclaim(who, device).await?,
            Op::SetCode { device, secret, from, length, upper } => {
                // A maker stores codes for devices that nobody owns.
                if self.model[device].owner.is_none() {
                    let (from, until) = (at(self.now + from), at(self.now + from + length));
                    let (id, registry) = (self.devices[device], &self.world.registry);
                    match upper {
                        true => registry.set_upper_code(id, &text(secret).to_uppercase(), Some(from), Some(until)),
                        false => registry.set_code(id, &text(secret), Some(from), Some(until)),
                    }
                    self.model[device].code = Some((secret, from, until, upper));
                }
            }
            Op::ClearCode { device } => {
                self.world.registry.clear_code(self.devices[device]);
                self.model[device].code = None;
            }
            Op::Maker { device, rule, on } => {
                let known = &mut self.model[device];
                self.world.registry.change(self.devices[device], |row| match rule {
                    Rule::Authorized => (row.authorized, known.authorized) = (on, on),
                    Rule::Frozen => (row.frozen, known.frozen) = (on, on),
                    Rule::Presence => (row.presence, known.presence) = (on, on),
                });
            }
            Op::Pass { ms } => self.now += ms,
            Op::Replay { device } => self.replay(device),
            Op::LoseConsumes(lose) => self.world.cache.lose_consumes(lose),
        }
        self.check()
    }

    async fn submit(&mut self, device: usize, secret: u8, lifetime: u32) -> Result<(), TestCaseError> {
        let intake = self.world.intake();
        let (token, origin) = (format!("t{device}"), origin(Some(Transport::Http)));
        let credential = DeviceCredential::AccessToken(&token);
        let session = intake.authenticate(credential, &origin, at(self.now)).await.expect("a device");
        let body = format!(r#"{{"secretKey":"{}","durationMs":{lifetime}}}"#, text(secret));
        let result = intake.submit(&session, body.as_bytes(), BodyFormat::Json, &origin, at(self.now)).await;
        prop_assert_eq!(result.is_ok(), self.model[device].open());
        if let Ok(receipt) = result {
            self.model[device].pending = Some((secret, receipt.expires_at, true));
            self.history.extend(self.world.cache.held(self.devices[device]));
        }
        Ok(())
    }

    async fn batch(&mut self, secret: u8) -> Result<(), TestCaseError> {
        // A void claim can only be cleared away by a cache that clears.
        self.world.cache.lose_consumes(false);
        let intake = self.world.intake();
        let origin = origin(Some(Transport::Mqtt));
        let credential = DeviceCredential::AccessToken("gateway");
        let session = intake.authenticate(credential, &origin, at(self.now)).await.expect("a gateway");
        let entry = |n: usize| format!(r#""d{n}":{{"secretKey":"{}","durationMs":60000}}"#, text(secret));
        let body = format!("{{{},{},{}}}", entry(0), entry(1), entry(2));
        let receipt = intake.submit_batch(&session, body.as_bytes(), BodyFormat::Json, &origin, at(self.now)).await;
        let receipt = receipt.expect("a good body");
        prop_assert_eq!(receipt.accepted + receipt.refused.len(), 3);
        for device in 0..3 {
            let name = format!("d{device}");
            let refused = receipt.refused.iter().any(|entry| *entry.name == *name);
            let behind = self.live(device).is_some_and(|(_, _, own)| own);
            prop_assert_eq!(refused, !self.model[device].open() || behind, "{}", name);
            if !refused {
                self.model[device].pending = Some((secret, at(self.now + 60_000), false));
                self.history.extend(self.world.cache.held(self.devices[device]));
            }
        }
        Ok(())
    }

    async fn confirm(
        &mut self,
        owner: usize,
        device: usize,
        secret: u8,
        loud: bool,
        by_eui: bool,
    ) -> Result<(), TestCaseError> {
        let shown = if loud { text(secret).to_uppercase() } else { text(secret) };
        let shown = ClaimSecret::parse(shown.as_str()).expect("a secret");
        let name = format!("d{device}");
        let request = ConfirmRequest {
            actor: self.owners[owner],
            for_customer: None,
            device: match by_eui {
                true => DeviceRef::Eui { dev_eui: eui(device), join_eui: None },
                false => DeviceRef::Name(&name),
            },
            target: None,
            secret: &shown,
            retry: None,
        };
        let before = self.world.cache.held(self.devices[device]);
        let outcome = self.world.confirmation().confirm(request, &origin(None), at(self.now)).await;
        let known = &self.model[device];
        let (now, live) = (at(self.now), self.live(device));
        let needs_code = known.presence && known.code.is_some();
        let by_claim = !needs_code && live.is_some_and(|(right, ..)| right == secret && !loud);
        let by_code = known.code.is_some_and(|(right, from, until, upper)| {
            right == secret && (upper || !loud) && from <= now && now < until && (live.is_some() || !known.presence)
        });
        match known.owner {
            Some(holder) if holder == owner => {
                prop_assert!(matches!(outcome, ConfirmOutcome::AlreadyYours { .. }), "{:?}", outcome);
            }
            Some(_) => prop_assert!(matches!(outcome, ConfirmOutcome::Refused(_)), "{:?}", outcome),
            None if known.open() && (by_claim || by_code) => {
                prop_assert!(matches!(outcome, ConfirmOutcome::Claimed { .. }), "{:?}", outcome);
                self.model[device] = Known { owner: Some(owner), pending: None, code: None, ..known.clone() };
            }
            None => {
                prop_assert!(matches!(outcome, ConfirmOutcome::Refused(_)), "{:?}", outcome);
                prop_assert_eq!(self.world.cache.held(self.devices[device]), before, "a miss changes nothing");
            }
        }
        Ok(())
    }

    async fn unclaim(&mut self, who: usize, device: usize) -> Result<(), TestCaseError> {
        let actor = self.owners.get(who).copied().unwrap_or(self.admin);
        let name = format!("d{device}");
        let outcome = self.world.confirmation().unclaim(actor, &name, &origin(None), at(self.now)).await;
        let is_admin = who == OWNERS;
        let known = &mut self.model[device];
        match known.owner {
            Some(holder) if is_admin || holder == who => {
                prop_assert!(matches!(outcome, UnclaimOutcome::Released { .. }), "{:?}", outcome);
                known.owner = None;
                known.pending = None;
            }
            None if is_admin => {
                prop_assert!(matches!(outcome, UnclaimOutcome::Unowned { .. }), "{:?}", outcome);
                known.pending = None;
            }
            _ => prop_assert_eq!(outcome, UnclaimOutcome::NotFound),
        }
        Ok(())
    }

    /// Puts an older claim back: if it is void, nothing changes for anyone; else it is what a failover may leave, an
    /// earlier word of the same device.
    fn replay(&mut self, device: usize) {
        let id = self.devices[device];
        let fence = self.world.registry.row(id).and_then(|row| row.claim_reset_at);
        let void = |claim: &&PendingClaim| claim.device == id && fence.is_some_and(|fence| claim.received_at <= fence);
        if self.live(device).is_none()
            && let Some(claim) = self.history.iter().rev().find(void)
        {
            self.world.cache.resurrect(*claim);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (device, known) in self.model.iter().enumerate() {
            let row = self.world.registry.row(self.devices[device]).expect("a row");
            let owner = known.owner.and_then(|owner| self.owners[owner].customer());
            prop_assert_eq!(row.owner, owner, "d{}", device);
            if let Some((_, until, _)) = self.live(device) {
                let held = self.world.cache.held(self.devices[device]);
                prop_assert_eq!(held.map(|claim| claim.expires_at), Some(until), "nothing unexpired is lost");
            }
        }
        Ok(())
    }
}

fn eui(device: usize) -> Eui64 {
    Eui64::from_bytes([0, 0, 0, 0, 0, 0, 1, device as u8])
}

fn text(secret: u8) -> String {
    format!("secret {secret}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_model_and_the_domain_agree(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut play = Play::new();
        for op in &ops {
            runtime.block_on(play.play(op))?;
        }
    }
}
