//! What names mean to a gateway: read first, and write only what is new, in one transaction for the whole batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claim::policy::GatewayScope;
use claim::ports::{Child, ResolveChildren};
use claim::{Device, DeviceId, DeviceName, TenantId, Unavailable};
use rusqlite::{Connection, OptionalExtension, params};

use crate::directory::profiles;
use crate::listings;
use crate::lookup::Forget;
use crate::rows;
use crate::sqlite::{SqliteRegistry, device_by_id};
use crate::writer::{After, Fault};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A name as it stands: the device and whether the gateway is related to it.
pub(crate) struct Known {
    pub(crate) device: Arc<Device>,
    pub(crate) related: bool,
}

impl SqliteRegistry {
    pub(crate) async fn children(&self, request: ResolveChildren) -> Result<Vec<Child>, Unavailable> {
        let request = Arc::new(request);
        let reading = Arc::clone(&request);
        let known = self.readers.read(move |connection| look_up(connection, &reading)).await?;
        let missing = known.iter().any(|known| known.as_ref().is_none_or(|known| relates(&request, known)));
        if !missing {
            return Ok(known.into_iter().flatten().map(|known| meaning(&request, &known)).collect());
        }
        self.write(move |connection, after| create(connection, after, &request)).await.map_err(|_| Unavailable)
    }
}

/// Whether speaking for this device also makes the relation, so that later pushes find the gateway.
pub(crate) fn relates(request: &ResolveChildren, known: &Known) -> bool {
    request.scope == GatewayScope::Tenant && !known.related
}

pub(crate) fn meaning(request: &ResolveChildren, known: &Known) -> Child {
    match request.scope {
        GatewayScope::Related if !known.related => Child::Unrelated,
        GatewayScope::Related | GatewayScope::Tenant => {
            Child::Device { device: Arc::clone(&known.device), created: false }
        }
    }
}

fn look_up(connection: &Connection, request: &ResolveChildren) -> rusqlite::Result<Vec<Option<Known>>> {
    let sql = format!(
        "SELECT {}, EXISTS (SELECT 1 FROM relation r WHERE r.gateway = ?3 AND r.device = d.id) FROM {} \
         WHERE d.tenant = ?1 AND d.name = ?2",
        rows::DEVICE,
        rows::DEVICE_FROM
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let find = |name: &DeviceName| {
        statement
            .query_row(params![request.tenant.as_bytes(), name.as_str(), request.gateway.as_bytes()], |row| {
                Ok(Known { device: Arc::new(rows::device(row)?), related: row.get(rows::DEVICE_COLUMNS)? })
            })
            .optional()
    };
    request.names.iter().map(find).collect()
}

/// Runs in the writer: reads again, since another batch may have made the same names meanwhile.
fn create(connection: &Connection, after: &mut After, request: &ResolveChildren) -> Result<Vec<Child>, Fault> {
    let (gateway, now) = (request.gateway, request.now);
    if device_by_id(connection, gateway)?.is_none() {
        return Ok(request.names.iter().map(|_| Child::Unrelated).collect());
    }
    let mut room = Room::of(connection, request)?;
    let profile = profiles::by_name_or_default(connection, request.tenant, request.profile.as_deref())?;
    let mut children = Vec::with_capacity(request.names.len());
    let mut made: HashMap<&DeviceName, DeviceId> = HashMap::new();
    for (name, known) in request.names.iter().zip(look_up(connection, request)?) {
        let child = match known {
            Some(known) => {
                if relates(request, &known) {
                    relate(connection, gateway, known.device.id, now.as_millis())?;
                    after.forget.push(Forget::Gateways(known.device.id));
                }
                meaning(request, &known)
            }
            None if !made.contains_key(name) && !room.take() => Child::NoRoom,
            None => {
                let (id, created) = match made.get(name) {
                    Some(id) => (*id, false),
                    None => {
                        (insert(connection, request.tenant, name, profile.as_bytes(), gateway, now.as_millis())?, true)
                    }
                };
                made.insert(name, id);
                relate(connection, gateway, id, now.as_millis())?;
                let device = device_by_id(connection, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                after.forget.push(Forget::Device(id));
                after.forget.push(Forget::Gateways(id));
                Child::Device { device: Arc::new(device), created }
            }
        };
        children.push(child);
    }
    Ok(children)
}

/// How many devices the gateway may still make.
struct Room(i64);

impl Room {
    fn of(connection: &Connection, request: &ResolveChildren) -> rusqlite::Result<Self> {
        let (a_day, in_all) = request.new_devices;
        let since = request.now.minus(DAY).as_millis();
        let (total, today): (i64, i64) = connection
            .prepare_cached("SELECT count(*), coalesce(sum(created_at > ?2), 0) FROM device WHERE created_by = ?1")?
            .query_row(params![request.gateway.as_bytes(), since], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self((i64::from(a_day) - today).min(i64::from(in_all) - total)))
    }

    fn take(&mut self) -> bool {
        self.0 -= 1;
        self.0 >= 0
    }
}

fn insert(
    connection: &Connection,
    tenant: TenantId,
    name: &DeviceName,
    profile: &[u8; 16],
    gateway: DeviceId,
    now: i64,
) -> Result<DeviceId, Fault> {
    let id = DeviceId::random();
    let (application, listing) = listings::default_home(connection, tenant, name)?;
    connection
        .prepare_cached(
            "INSERT INTO device (id, tenant, name, profile, gateway, created_at, created_by, \
             home_application, home_listing, application, listing) \
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?7, ?8)",
        )?
        .execute(params![
            id.as_bytes(),
            tenant.as_bytes(),
            name.as_str(),
            profile,
            now,
            gateway.as_bytes(),
            application,
            listing
        ])?;
    Ok(id)
}

pub(crate) fn relate(connection: &Connection, gateway: DeviceId, device: DeviceId, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO relation (gateway, device, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![gateway.as_bytes(), device.as_bytes(), now])?;
    Ok(())
}
