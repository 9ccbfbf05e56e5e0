//! Makers' and operators' work, by kind of thing: every statement names the tenant. See `crate::directory`.

pub(crate) mod profiles;

use std::sync::Arc;

use claim::TenantId;
use claim::applications::By;

use super::PostgresRegistry;
use super::db::{Db, Fault};
use crate::directory::credentials::Vault;

/// The audit row of something done to the directory itself; `reason` names the thing, and a person by id alone.
pub(crate) async fn audit(db: &Db, tenant: TenantId, action: &str, reason: &str, by: By) -> Result<(), Fault> {
    let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, \
         origin, request_id) VALUES ($1, $2, 'account', $3, $4, 'done', $5, 'none', 1, FALSE, 'api', 0)";
    db.run(sql, &[&by.now.as_millis(), &tenant.uuid(), &by.account.uuid(), &action, &reason]).await?;
    Ok(())
}

impl PostgresRegistry {
    pub(crate) fn vault(&self) -> Vault {
        Vault { keyring: Arc::clone(&self.keyring), sealer: Arc::clone(&self.sealer) }
    }
}
