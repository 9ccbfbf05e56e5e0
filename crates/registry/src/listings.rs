//! Applications and the devices listed in them. Every change writes its audit row and its event in its transaction.

pub(crate) mod applications;
pub(crate) mod codes;
pub(crate) mod devices;
pub(crate) mod root_keys;

use claim::applications::{
    Application, ApplicationChange, ApplicationDraft, Applications, By, CodeChange, DeviceChange, ListedDevice,
    NewDevice, Place, RootKeys,
};
use claim::directory::{Answer, DirectoryError, Page, PageRequest};
use claim::event::MakerEvent;
use claim::imports::Imports;
use claim::{CustomerId, DeviceId, DeviceName, ListingId, PortFuture, Secret, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::imports::over_in;
use crate::outbox;
use crate::rows;
use crate::sqlite::SqliteRegistry;
use crate::writer::{After, Fault};

pub(crate) use applications::create_default;

/// Where a device that was made without an application is at home: in `default`, under an id made from its name.
pub(crate) fn default_home(
    connection: &Connection,
    tenant: TenantId,
    name: &DeviceName,
) -> Result<([u8; 16], String), Fault> {
    let application = connection
        .prepare_cached("SELECT id FROM application WHERE tenant = ?1 AND listing = 'default'")?
        .query_row([tenant.as_bytes()], |row| rows::bytes(row, 0))?;
    let mut suffix = 0;
    loop {
        let listing = ListingId::from_name(name.as_str(), suffix);
        if !devices::taken(connection, application, &listing)? {
            return Ok((application, listing.as_str().to_owned()));
        }
        suffix = next_suffix(suffix)?;
    }
}

/// The number that is tried after `suffix` behind an id made from a name.
pub(crate) fn next_suffix(suffix: u32) -> Result<u32, DirectoryError> {
    /// Tries with small numbers before a random one, so that names which all make the same id cost the same.
    const COUNTED: u32 = 9;
    match suffix {
        0 => Ok(2),
        counted if counted < COUNTED => Ok(counted + 1),
        _ => getrandom::u32().map_err(|_| DirectoryError::Unavailable),
    }
}

/// What a maker did: for the audit log and for whoever listens.
pub(crate) struct Deed<'a> {
    pub(crate) tenant: TenantId,
    /// The device, or the application.
    pub(crate) subject: &'a [u8; 16],
    pub(crate) name: &'a str,
    pub(crate) event: MakerEvent,
    /// Why, if anybody said.
    pub(crate) reason: Option<&'a str>,
}

impl Deed<'_> {
    /// The device it was done to, if it was one.
    pub(crate) fn device(&self) -> Option<&[u8; 16]> {
        (!self.event.of_application()).then_some(self.subject)
    }

    /// What the audit log says of it.
    pub(crate) fn said(&self) -> &str {
        self.reason.unwrap_or(self.name)
    }

    pub(crate) fn record(&self, connection: &Connection, after: &mut After, by: By) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
                 charged, origin, request_id) VALUES (?1, ?2, 'account', ?3, ?4, ?5, 'done', ?6, 'none', 1, 0, 'api', 0)",
            )?
            .execute(params![
                by.now.as_millis(),
                self.tenant.as_bytes(),
                by.account.as_bytes(),
                self.event.name(),
                self.device(),
                self.said()
            ])?;
        outbox::insert_maker(connection, self.tenant, self.subject, self.name, self.event, by.now)?;
        after.event = true;
        Ok(())
    }
}

impl Applications for SqliteRegistry {
    fn create_application(&self, tenant: TenantId, draft: ApplicationDraft, by: By) -> Answer<'_, Application> {
        self.change(move |connection, after| applications::create(connection, after, tenant, &draft, by))
    }

    fn applications(
        &self,
        tenant: TenantId,
        customer: Option<CustomerId>,
        page: PageRequest,
    ) -> Answer<'_, Page<Application>> {
        PortFuture::later(self.look(move |connection| applications::list(connection, tenant, customer, &page)))
    }

    fn application(&self, tenant: TenantId, listing: ListingId) -> Answer<'_, Application> {
        self.look_for("application", move |connection| applications::one(connection, tenant, &listing))
    }

    fn change_application(
        &self,
        tenant: TenantId,
        listing: ListingId,
        change: ApplicationChange,
        by: By,
    ) -> Answer<'_, Application> {
        self.change(move |connection, after| applications::change(connection, after, tenant, &listing, change, by))
    }

    fn delete_application(&self, tenant: TenantId, listing: ListingId, by: By) -> Answer<'_, ()> {
        PortFuture::later(async move {
            let application = listing.clone();
            let jobs = self.write(move |connection, _| {
                applications::deletable(connection, tenant, &application)?;
                over_in(connection, tenant, &application)
            });
            // Its imports first, a little at a time: all their rows at once would keep everybody waiting.
            for job in jobs.await? {
                self.delete_import(tenant, job, by).await?;
            }
            let delete = move |connection: &Connection, after: &mut After| {
                applications::delete(connection, after, tenant, &listing, by)
            };
            Ok(self.write(delete).await?)
        })
    }

    fn register(
        &self,
        tenant: TenantId,
        application: ListingId,
        device: NewDevice,
        by: By,
    ) -> Answer<'_, ListedDevice> {
        let vault = self.vault();
        self.change(move |connection, after| {
            devices::register(connection, after, &vault, tenant, &application, &device, by)
        })
    }

    fn listed(&self, tenant: TenantId, place: Place) -> Answer<'_, ListedDevice> {
        self.look_for("device", move |connection| devices::listed(connection, tenant, &place))
    }

    fn at_home(&self, tenant: TenantId, home: Place) -> Answer<'_, ListedDevice> {
        self.look_for("device", move |connection| devices::at_home(connection, tenant, &home))
    }

    fn listed_device(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ListedDevice> {
        self.look_for("device", move |connection| devices::by_id(connection, tenant, device))
    }

    fn listed_in(&self, tenant: TenantId, application: ListingId, page: PageRequest) -> Answer<'_, Page<ListedDevice>> {
        PortFuture::later(self.look(move |connection| devices::list(connection, tenant, &application, &page)))
    }

    fn remove(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| devices::remove(connection, after, tenant, &home, by))
    }

    fn change_code(&self, tenant: TenantId, home: Place, change: CodeChange, by: By) -> Answer<'_, ListedDevice> {
        let vault = self.vault();
        self.change(move |connection, after| codes::change(connection, after, &vault, tenant, &home, &change, by))
    }

    fn read_code(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, Secret<String>> {
        let vault = self.vault();
        self.change(move |connection, after| codes::read(connection, after, &vault, tenant, &home, by))
    }

    fn export_root_keys(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, RootKeys> {
        let vault = self.vault();
        self.change(move |connection, after| root_keys::export(connection, after, &vault, tenant, &home, by))
    }

    fn change_device(&self, tenant: TenantId, home: Place, change: DeviceChange, by: By) -> Answer<'_, ListedDevice> {
        self.change(move |connection, after| devices::change(connection, after, tenant, &home, &change, by))
    }

    fn note_forced_release(&self, tenant: TenantId, home: Place, reason: String, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| devices::note_release(connection, after, tenant, &home, &reason, by))
    }
}

/// The id of a tenant's application.
pub(crate) fn application_id(
    connection: &Connection,
    tenant: TenantId,
    listing: &ListingId,
) -> rusqlite::Result<Option<[u8; 16]>> {
    connection
        .prepare_cached("SELECT id FROM application WHERE tenant = ?1 AND listing = ?2")?
        .query_row(params![tenant.as_bytes(), listing.as_str()], |row| rows::bytes(row, 0))
        .optional()
}

/// A [`ListingId`] read back.
pub(crate) fn listing(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<ListingId> {
    ListingId::parse(row.get_ref(column)?.as_str()?).map_err(|fault| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(fault))
    })
}

pub(crate) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}
