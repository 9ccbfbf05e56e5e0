//! The contract of [`AuditLog`], rule by rule: rows in order and by filter, chains that are whole and a tenant's own. [`all`]
//! runs every rule, each on an empty log. What happens to a chain that somebody has tampered with is for the adapter's own
//! tests: no port lets anybody tamper.

use std::sync::Arc;

use claim::audit::{AuditFilter, AuditLog, AuditRow, ChainCheck, ChainHash};
use claim::event::{AuditAction, AuditActor, AuditNote, Evidence};
use claim::ports::DeviceRegistry;
use claim::{DeviceId, TenantId, UserId};

use crate::fixtures::at;

/// Runs every rule; `log` makes an empty one for each, whose rows are written by [`DeviceRegistry::note_charged`].
pub async fn all<L: AuditLog + DeviceRegistry>(log: impl Fn() -> Arc<L>) {
    rows_come_in_order_and_by_what_was_asked_for(&*log()).await;
    sealing_chains_every_row_once_in_its_tenant_s_own_chain(&*log()).await;
    a_chain_goes_on_where_it_ended(&*log()).await;
    a_stretch_goes_on_where_the_one_before_ended(&*log()).await;
    of_many_sealers_each_row_is_chained_by_one(&log()).await;
}

async fn happens(log: &dyn DeviceRegistry, tenant: TenantId, device: Option<DeviceId>, ms: i64) {
    let note = AuditNote {
        at: at(ms),
        tenant,
        actor: AuditActor::Account(UserId::random()),
        action: AuditAction::Confirm,
        device,
        attempt_key: None,
        outcome: "refused",
        reason: "wrong_secret",
        evidence: Evidence::None,
        charged: true,
        transport: None,
        request_id: 7,
    };
    log.note_charged(note).await.expect("on record");
}

async fn rows(log: &dyn AuditLog, tenant: TenantId) -> Vec<AuditRow> {
    log.rows(tenant, AuditFilter::default(), 1_000).await.expect("rows")
}

/// The end of a tenant's chain, which must be whole.
async fn head(log: &dyn AuditLog, tenant: TenantId) -> (u64, u64, Option<ChainHash>) {
    let mut check = ChainCheck::from_start();
    for row in rows(log, tenant).await {
        check.row(&row).expect("a whole chain");
    }
    (check.sealed(), check.unsealed(), check.head())
}

/// Another tenant's rows do not exist.
pub async fn rows_come_in_order_and_by_what_was_asked_for<L: AuditLog + DeviceRegistry>(log: &L) {
    let (here, there, pump) = (TenantId::random(), TenantId::random(), DeviceId::random());
    for n in 0..6 {
        happens(log, here, (n % 2 == 0).then_some(pump), n).await;
        happens(log, there, None, n).await;
    }
    // A clock that was set back, or two requests that overtook each other.
    happens(log, here, None, 1).await;
    let all = rows(log, here).await;
    assert_eq!(all.iter().map(|row| row.at.as_millis() - at(0).as_millis()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 1]);
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{all:?}");
    assert!(all.iter().all(|row| row.tenant == here && row.charged && row.origin == "api" && row.request_id == 7));
    let asked = async |filter, most| log.rows(here, filter, most).await.expect("rows");
    assert_eq!(asked(AuditFilter::after(all[1].seq), 3).await, all[2..5]);
    let since_time = AuditFilter { since_time: Some(at(4)), ..AuditFilter::default() };
    assert_eq!(asked(since_time, 10).await, all[4..]);
    let later = AuditFilter { since_time: Some(at(6)), ..AuditFilter::default() };
    assert_eq!(asked(later, 10).await, []);
    let of_pump = AuditFilter { device: Some(pump), ..AuditFilter::default() };
    assert_eq!(asked(of_pump, 10).await, [all[0].clone(), all[2].clone(), all[4].clone()]);
    let both = AuditFilter { since: all[0].seq, since_time: Some(at(2)), device: Some(pump) };
    assert_eq!(asked(both, 1).await, all[2..3]);
    assert_eq!(log.rows(TenantId::random(), AuditFilter::default(), 10).await, Ok(vec![]));
}

/// Oldest first, no more than asked for.
pub async fn sealing_chains_every_row_once_in_its_tenant_s_own_chain<L: AuditLog + DeviceRegistry>(log: &L) {
    let (here, there) = (TenantId::random(), TenantId::random());
    assert_eq!((log.seal(10).await, log.unsealed().await), (Ok(0), Ok(0)));
    for n in 0..5 {
        happens(log, here, None, n).await;
        happens(log, there, None, n).await;
    }
    assert_eq!(log.unsealed().await, Ok(10));
    assert!(rows(log, here).await.iter().all(|row| row.seal.is_none()));
    assert_eq!(log.seal(3).await, Ok(3));
    assert_eq!((head(log, here).await.0, head(log, there).await.0), (2, 1));
    assert_eq!(log.unsealed().await, Ok(7));
    assert_eq!((log.seal(100).await, log.seal(100).await), (Ok(7), Ok(0)));
    let (ours, theirs) = (head(log, here).await, head(log, there).await);
    assert_eq!(((ours.0, ours.1), (theirs.0, theirs.1)), ((5, 0), (5, 0)));
    assert_ne!(ours.2, theirs.2);
    assert_eq!(rows(log, here).await[0].seal.map(|seal| seal.prev_hash), Some(ChainHash::START));
}

/// What is chained stays as it is.
pub async fn a_chain_goes_on_where_it_ended<L: AuditLog + DeviceRegistry>(log: &L) {
    let tenant = TenantId::random();
    happens(log, tenant, None, 0).await;
    log.seal(10).await.expect("sealed");
    let before = rows(log, tenant).await;
    happens(log, tenant, None, 1).await;
    assert_eq!(head(log, tenant).await, (1, 1, before[0].seal.map(|seal| seal.hash)));
    log.seal(10).await.expect("sealed");
    let after = rows(log, tenant).await;
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].seal.map(|seal| seal.prev_hash), before[0].seal.map(|seal| seal.hash));
}

/// Nothing is missing from a log that nobody has tampered with.
pub async fn a_stretch_goes_on_where_the_one_before_ended<L: AuditLog + DeviceRegistry>(log: &L) {
    let tenant = TenantId::random();
    for n in 0..4 {
        happens(log, tenant, None, n).await;
        happens(log, TenantId::random(), None, n).await;
    }
    log.seal(7).await.expect("sealed");
    let all = rows(log, tenant).await;
    for most in [1, 2, 3, 4, 5] {
        let (mut found, mut since) = (Vec::new(), 0);
        loop {
            let stretch = log.stretch(tenant, since, most).await.expect("a stretch");
            assert_eq!(stretch.gone, None);
            assert!(stretch.rows.len() <= most as usize);
            let Some(last) = stretch.rows.last() else { break };
            since = last.seq;
            found.extend(stretch.rows);
        }
        assert_eq!(found, all, "{most} at once");
    }
}

/// However they meet.
pub async fn of_many_sealers_each_row_is_chained_by_one<L: AuditLog + DeviceRegistry>(log: &Arc<L>) {
    let tenant = TenantId::random();
    for n in 0..40 {
        happens(&**log, tenant, None, n).await;
    }
    let sealer = async || {
        let mut sealed = 0;
        while log.unsealed().await.expect("an answer") > 0 {
            sealed += log.seal(3).await.expect("an answer");
        }
        sealed
    };
    let (a, b, c) = tokio::join!(sealer(), sealer(), sealer());
    assert_eq!(a + b + c, 40);
    assert_eq!(head(&**log, tenant).await.0, 40);
}
