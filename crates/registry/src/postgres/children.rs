//! What names mean to a gateway: read first, and write only what is new, in one transaction for the whole batch. See
//! `crate::children`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use claim::ports::{Child, ResolveChildren};
use claim::{DeviceId, DeviceName, Unavailable};
use uuid::Uuid;

use super::db::{Db, Fault};
use super::directory::profiles;
use super::write::Way;
use super::{After, PostgresRegistry, listings, rows};
use crate::children::{DAY, Known, meaning, relates};
use crate::lookup::Forget;
use crate::rows::{DEVICE, DEVICE_COLUMNS, DEVICE_FROM};

impl PostgresRegistry {
    pub(super) async fn resolve(&self, request: ResolveChildren) -> Result<Vec<Child>, Unavailable> {
        let request = Arc::new(request);
        let known = self.read(Arc::clone(&request), |db, request| Box::pin(look_up(db, request))).await?;
        let settled = |name| known.get(name).is_some_and(|known: &Known| !relates(&request, known));
        if request.names.iter().all(settled) {
            return Ok(request.names.iter().filter_map(|name| Some(meaning(&request, known.get(name)?))).collect());
        }
        let written =
            self.write_as(Way::ReadCommitted, request, |db, after, request| Box::pin(make(db, after, request)));
        written.await.map_err(|_| Unavailable)
    }
}

/// Those of the names that are there.
async fn look_up(db: &Db, request: &ResolveChildren) -> Result<HashMap<DeviceName, Known>, Fault> {
    let sql = format!(
        "SELECT {DEVICE}, EXISTS (SELECT 1 FROM relation r WHERE r.gateway = $3 AND r.device = d.id) FROM {DEVICE_FROM} \
         WHERE d.tenant = $1 AND d.name = ANY($2)"
    );
    let names: Vec<&str> = request.names.iter().map(DeviceName::as_str).collect();
    let found = db.rows(&sql, &[&request.tenant.uuid(), &names, &request.gateway.uuid()]).await?;
    let known = found.iter().map(|row| {
        let (device, related) = (Arc::new(rows::device(row)?), rows::get(row, DEVICE_COLUMNS)?);
        Ok((device.name.clone(), Known { device, related }))
    });
    known.collect()
}

/// Reads again, since another batch may have made the same names meanwhile.
async fn make(db: &Db, after: &mut After, request: &ResolveChildren) -> Result<Vec<Child>, Fault> {
    // Locked: of two batches of one gateway the second counts what the first has made.
    let gateway = db.row("SELECT 1 FROM device WHERE id = $1 FOR UPDATE", &[&request.gateway.uuid()]).await?;
    if gateway.is_none() {
        return Ok(request.names.iter().map(|_| Child::Unrelated).collect());
    }
    let known = look_up(db, request).await?;
    let mut seen = HashSet::new();
    let missing: Vec<&DeviceName> =
        request.names.iter().filter(|name| !known.contains_key(*name) && seen.insert(*name)).collect();
    let room = if missing.is_empty() { 0 } else { room(db, request).await? };
    let missing = &missing[..missing.len().min(room)];
    let made = create(db, request, missing).await?;
    let mut known = if missing.is_empty() { known } else { look_up(db, request).await? };
    let related: Vec<DeviceId> = known
        .values_mut()
        .filter(|known| relates(request, known) || made.contains(&known.device.id))
        .map(|known| {
            known.related = true;
            known.device.id
        })
        .collect();
    relate(db, request, &related).await?;
    after.forget.extend(made.iter().map(|id| Forget::Device(*id)));
    after.forget.extend(related.iter().map(|id| Forget::Gateways(*id)));
    let mut news = made;
    let child = |name| match known.get(name) {
        None => Child::NoRoom,
        Some(known) => match meaning(request, known) {
            Child::Device { device, .. } => Child::Device { created: news.remove(&device.id), device },
            other => other,
        },
    };
    Ok(request.names.iter().map(child).collect())
}

/// How many devices the gateway may still make.
async fn room(db: &Db, request: &ResolveChildren) -> Result<usize, Fault> {
    let (a_day, in_all) = request.new_devices;
    let sql = "SELECT count(*), count(*) FILTER (WHERE created_at > $2) FROM device WHERE created_by = $1";
    let row = db.one(sql, &[&request.gateway.uuid(), &request.now.minus(DAY).as_millis()]).await?;
    let (total, today): (i64, i64) = (rows::get(&row, 0)?, rows::get(&row, 1)?);
    let room = (i64::from(a_day) - today).min(i64::from(in_all) - total);
    Ok(usize::try_from(room).unwrap_or(0))
}

/// Makes devices of these names, unowned; which. A name that somebody else makes at the same moment is theirs.
async fn create(db: &Db, request: &ResolveChildren, names: &[&DeviceName]) -> Result<HashSet<DeviceId>, Fault> {
    let mut made = HashSet::with_capacity(names.len());
    if names.is_empty() {
        return Ok(made);
    }
    let profile = profiles::by_name_or_default(db, request.tenant, request.profile.as_deref()).await?;
    let sql = "INSERT INTO device (id, tenant, name, profile, gateway, created_at, created_by, \
         home_application, home_listing, application, listing) \
         VALUES ($1, $2, $3, $4, FALSE, $5, $6, $7, $8, $7, $8) ON CONFLICT DO NOTHING";
    for name in names {
        // The id in `default` may be taken in the same moment, too; then the next is tried.
        loop {
            let id = DeviceId::random();
            let (application, listing) = listings::default_home(db, request.tenant, name).await?;
            let (tenant, gateway, profile) = (request.tenant.uuid(), request.gateway.uuid(), profile.uuid());
            let now = request.now.as_millis();
            let inserted = db
                .run(sql, &[&id.uuid(), &tenant, &name.as_str(), &profile, &now, &gateway, &application, &listing])
                .await?;
            if inserted == 1 {
                made.insert(id);
                break;
            }
            if db
                .row("SELECT 1 FROM device WHERE tenant = $1 AND name = $2", &[&tenant, &name.as_str()])
                .await?
                .is_some()
            {
                break;
            }
        }
    }
    Ok(made)
}

/// The gateway speaks for these from now on.
async fn relate(db: &Db, request: &ResolveChildren, devices: &[DeviceId]) -> Result<(), Fault> {
    if devices.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO relation (gateway, device, created_at) SELECT $1, device, $3 FROM unnest($2::uuid[]) AS device \
         ON CONFLICT DO NOTHING";
    let devices: Vec<Uuid> = devices.iter().map(|id| id.uuid()).collect();
    db.run(sql, &[&request.gateway.uuid(), &devices, &request.now.as_millis()]).await?;
    Ok(())
}
