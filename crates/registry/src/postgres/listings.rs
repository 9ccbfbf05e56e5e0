//! Applications and the devices listed in them. See `crate::listings`.

pub(crate) mod applications;
pub(crate) mod codes;
pub(crate) mod devices;
pub(crate) mod root_keys;

use claim::applications::{
    Application, ApplicationChange, ApplicationDraft, Applications, By, CodeChange, DeviceChange, ListedDevice,
    NewDevice, Place, RootKeys,
};
use claim::directory::{Answer, Page, PageRequest};
use claim::imports::Imports;
use claim::{CustomerId, DeviceId, DeviceName, ListingId, PortFuture, Secret, TenantId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::db::{Db, Fault};
use super::imports::over_in;
use super::{After, PostgresRegistry, outbox, rows};
use crate::listings::{Deed, next_suffix};

/// Where a device that was made without an application is at home: in `default`, under an id made from its name.
pub(crate) async fn default_home(db: &Db, tenant: TenantId, name: &DeviceName) -> Result<(Uuid, String), Fault> {
    let sql = "SELECT id FROM application WHERE tenant = $1 AND listing = 'default'";
    let application: Uuid = rows::get(&db.one(sql, &[&tenant.uuid()]).await?, 0)?;
    let mut suffix = 0;
    loop {
        let listing = ListingId::from_name(name.as_str(), suffix);
        if !devices::taken(db, application, &listing).await? {
            return Ok((application, listing.as_str().to_owned()));
        }
        suffix = next_suffix(suffix)?;
    }
}

impl Deed<'_> {
    /// [`Deed::record`], in PostgreSQL.
    pub(crate) async fn record_in(&self, db: &Db, after: &mut After, by: By) -> Result<(), Fault> {
        let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
             charged, origin, request_id) \
             VALUES ($1, $2, 'account', $3, $4, $5, 'done', $6, 'none', 1, FALSE, 'api', 0)";
        let device = self.device().map(|device| Uuid::from_bytes(*device));
        let (at, tenant, actor) = (by.now.as_millis(), self.tenant.uuid(), by.account.uuid());
        db.run(sql, &[&at, &tenant, &actor, &self.event.name(), &device, &self.said()]).await?;
        outbox::insert_maker(db, self.tenant, *self.subject, self.name, self.event, by.now).await?;
        after.event = true;
        Ok(())
    }
}

impl Applications for PostgresRegistry {
    fn create_application(&self, tenant: TenantId, draft: ApplicationDraft, by: By) -> Answer<'_, Application> {
        self.change_locked((tenant, draft, by), |db, after, (tenant, draft, by)| {
            Box::pin(applications::create(db, after, *tenant, draft, *by))
        })
    }

    fn applications(
        &self,
        tenant: TenantId,
        customer: Option<CustomerId>,
        page: PageRequest,
    ) -> Answer<'_, Page<Application>> {
        PortFuture::later(self.look((tenant, customer, page), |db, (tenant, customer, page)| {
            Box::pin(applications::list(db, *tenant, *customer, page))
        }))
    }

    fn application(&self, tenant: TenantId, listing: ListingId) -> Answer<'_, Application> {
        self.look_for("application", (tenant, listing), |db, (tenant, listing)| {
            Box::pin(applications::one(db, *tenant, listing))
        })
    }

    fn change_application(
        &self,
        tenant: TenantId,
        listing: ListingId,
        change: ApplicationChange,
        by: By,
    ) -> Answer<'_, Application> {
        self.change_locked((tenant, listing, change, by), |db, after, (tenant, listing, change, by)| {
            Box::pin(applications::change(db, after, *tenant, listing, *change, *by))
        })
    }

    fn delete_application(&self, tenant: TenantId, listing: ListingId, by: By) -> Answer<'_, ()> {
        PortFuture::later(async move {
            let jobs = self.change_locked((tenant, listing.clone()), |db, _, (tenant, listing)| {
                Box::pin(async move {
                    applications::deletable(db, *tenant, listing).await?;
                    over_in(db, *tenant, listing).await
                })
            });
            // Its imports first, a little at a time: all their rows at once would keep everybody waiting.
            for job in jobs.await? {
                self.delete_import(tenant, job, by).await?;
            }
            let delete = self.change_locked((tenant, listing, by), |db, after, (tenant, listing, by)| {
                Box::pin(applications::delete(db, after, *tenant, listing, *by))
            });
            delete.await
        })
    }

    fn register(
        &self,
        tenant: TenantId,
        application: ListingId,
        device: NewDevice,
        by: By,
    ) -> Answer<'_, ListedDevice> {
        let args = (self.vault(), tenant, application, device, by);
        self.change_locked(args, |db, after, (vault, tenant, application, device, by)| {
            Box::pin(devices::register(db, after, vault, *tenant, application, device, *by))
        })
    }

    fn listed(&self, tenant: TenantId, place: Place) -> Answer<'_, ListedDevice> {
        self.look_for("device", (tenant, place), |db, (tenant, place)| Box::pin(devices::listed(db, *tenant, place)))
    }

    fn at_home(&self, tenant: TenantId, home: Place) -> Answer<'_, ListedDevice> {
        self.look_for("device", (tenant, home), |db, (tenant, home)| Box::pin(devices::at_home(db, *tenant, home)))
    }

    fn listed_device(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ListedDevice> {
        self.look_for("device", (tenant, device), |db, (tenant, device)| Box::pin(devices::by_id(db, *tenant, *device)))
    }

    fn listed_in(&self, tenant: TenantId, application: ListingId, page: PageRequest) -> Answer<'_, Page<ListedDevice>> {
        PortFuture::later(self.look((tenant, application, page), |db, (tenant, application, page)| {
            Box::pin(devices::list(db, *tenant, application, page))
        }))
    }

    fn remove(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, home, by), |db, after, (tenant, home, by)| {
            Box::pin(devices::remove(db, after, *tenant, home, *by))
        })
    }

    fn change_code(&self, tenant: TenantId, home: Place, change: CodeChange, by: By) -> Answer<'_, ListedDevice> {
        let args = (self.vault(), tenant, home, change, by);
        self.change_locked(args, |db, after, (vault, tenant, home, change, by)| {
            Box::pin(codes::change(db, after, vault, *tenant, home, change, *by))
        })
    }

    fn read_code(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, Secret<String>> {
        self.change_locked((self.vault(), tenant, home, by), |db, after, (vault, tenant, home, by)| {
            Box::pin(codes::read(db, after, vault, *tenant, home, *by))
        })
    }

    fn export_root_keys(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, RootKeys> {
        self.change_locked((self.vault(), tenant, home, by), |db, after, (vault, tenant, home, by)| {
            Box::pin(root_keys::export(db, after, vault, *tenant, home, *by))
        })
    }

    fn change_device(&self, tenant: TenantId, home: Place, change: DeviceChange, by: By) -> Answer<'_, ListedDevice> {
        self.change_locked((tenant, home, change, by), |db, after, (tenant, home, change, by)| {
            Box::pin(devices::change(db, after, *tenant, home, change, *by))
        })
    }

    fn note_forced_release(&self, tenant: TenantId, home: Place, reason: String, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, home, reason, by), |db, after, (tenant, home, reason, by)| {
            Box::pin(devices::note_release(db, after, *tenant, home, reason, *by))
        })
    }
}

/// The id of a tenant's application.
pub(crate) async fn application_id(db: &Db, tenant: TenantId, listing: &ListingId) -> Result<Option<Uuid>, Fault> {
    let sql = "SELECT id FROM application WHERE tenant = $1 AND listing = $2";
    let row = db.row(sql, &[&tenant.uuid(), &listing.as_str()]).await?;
    row.map(|row| rows::get(&row, 0)).transpose()
}

/// A [`ListingId`] read back.
pub(crate) fn listing(row: &Row, column: usize) -> Result<ListingId, Fault> {
    ListingId::parse(rows::get(row, column)?).map_err(|_| Fault::Damaged("an id that cannot be one"))
}
