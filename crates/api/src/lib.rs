//! The HTTP API for people and tools: ThingsBoard's REST subset for owners and makers, sign-in, and our own routes.
//!
//! An owner's `POST /api/customer/device/{name}/claim` enters in `routes/owner.rs`, is decided by [`claim::Confirmation`]
//! and answered in `reply.rs`. Makers' set-up calls go through the [`Directory`] port. Who asks is found once, in
//! `extract.rs`; every handler for signed-in people takes a `Caller`, so one without it does not compile into a secret door.
//!
//! Promises: no handler decides a claim; every look-up is scoped by the caller's tenant; no answer, error or log of this
//! crate holds a secret, a token or a password; the OpenAPI document is built from the same table as the router.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bearer;
mod config;
mod docs;
mod extract;
mod imports;
mod listed;
mod model;
mod passwords;
mod reply;
mod routes;
mod stack;
mod throttle;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use claim::applications::Applications;
use claim::audit::AuditLog;
use claim::directory::{Account, Directory, DirectoryError};
use claim::gateways::Gateways;
use claim::imports::Imports;
use claim::keys::{MasterKeys, SigningKeys};
use claim::owner::Authority;
use claim::permissions::{ClaimPermission, Grants, Permissions};
use claim::roles::Roles;
use claim::watch::WatchFeed;
use claim::{Confirmation, Keyring, Origin, Timestamp, UserId};
use claim_codes::Style;
use claim_codes::import::manifest::Trust;
use listener::PeerAddress;
use moka::sync::Cache;
use tokio::sync::Notify;

pub use config::Config;
pub use imports::run as run_imports;
pub use passwords::{PasswordFault, Passwords};

use bearer::Bearers;
use reply::Fault;
use throttle::Throttle;

/// Accounts kept at hand, and for how long: what another node changes is noticed after this.
const ACCOUNTS: (u64, Duration) = (10_000, Duration::from_secs(10));

/// What the API needs.
pub struct ApiParts {
    /// Where ownership changes hands.
    pub confirmation: Confirmation,
    /// Makers' and operators' work.
    pub directory: Arc<dyn Directory>,
    /// Applications and the devices listed in them.
    pub applications: Arc<dyn Applications>,
    /// Import jobs; [`run_imports`] applies them.
    pub imports: Arc<dyn Imports>,
    /// Wakes whoever applies them.
    pub imports_wait: Arc<Notify>,
    /// Whose manifests of secure elements are believed; `None`: nobody's.
    pub trust: Option<Trust>,
    /// Whether generated codes end with a check symbol (`codes.check_symbol`).
    pub check_symbol: bool,
    /// The audit log.
    pub audit: Arc<dyn AuditLog>,
    /// What happens to claims, live.
    pub watch: Arc<WatchFeed>,
    /// Gateways and what they speak for.
    pub gateways: Arc<dyn Gateways>,
    /// Roles and groups.
    pub roles: Arc<dyn Roles>,
    /// Digest keys.
    pub keyring: Arc<Keyring>,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The process's counter of requests.
    pub request_ids: Arc<AtomicU64>,
    /// The keys bearers are signed with.
    pub signing_keys: Arc<dyn SigningKeys>,
    /// The master key.
    pub master_keys: Arc<dyn MasterKeys>,
    /// Password hashing.
    pub passwords: Passwords,
    /// The `[owner_api]` section.
    pub config: Config,
    /// The `[permissions]` section.
    pub permissions: Permissions,
    /// Where people reach this server, for links; empty: as the request says.
    pub public_url: String,
}

/// The API's state, shared by all requests.
#[derive(Clone)]
pub(crate) struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ApiParts,
    bearers: Bearers,
    throttle: Throttle,
    accounts: Cache<UserId, Arc<Account>>,
    /// API keys by digest: whose, and until when.
    keys: Cache<[u8; 32], (UserId, Option<Timestamp>)>,
    /// What roles grant to accounts, where that is asked for.
    grants: Cache<UserId, Grants>,
}

/// The routes under `/api/` (but for the devices' own `/api/v1/`), as a service for the HTTP listener. Reads the signing keys.
pub async fn router(parts: ApiParts) -> Result<Router, DirectoryError> {
    let keys = parts.signing_keys.signing_keys((parts.clock)()).await?;
    let inner = Inner {
        bearers: Bearers::new(&keys, parts.config.bearer_lifetime),
        throttle: Throttle::new(&parts.config),
        accounts: Cache::builder().max_capacity(ACCOUNTS.0).time_to_live(ACCOUNTS.1).build(),
        keys: Cache::builder().max_capacity(ACCOUNTS.0).time_to_live(ACCOUNTS.1).build(),
        grants: Cache::builder().max_capacity(ACCOUNTS.0).time_to_live(ACCOUNTS.1).build(),
        parts,
    };
    Ok(routes::all(Api { inner: Arc::new(inner) }))
}

impl Api {
    fn now(&self) -> Timestamp {
        (self.inner.parts.clock)()
    }

    fn limit_reached(&self, limit: &'static str) {
        self.inner.parts.confirmation.meter().limit_reached(limit);
    }

    fn config(&self) -> &Config {
        &self.inner.parts.config
    }

    fn applications(&self) -> &dyn Applications {
        &*self.inner.parts.applications
    }

    /// How codes are generated, by the name that people use.
    fn style(&self, name: &str) -> Option<Style> {
        let style = Style::parse(name)?;
        Some(if self.inner.parts.check_symbol { style.with_check_symbol() } else { style })
    }

    fn imports(&self) -> &dyn Imports {
        &*self.inner.parts.imports
    }

    fn audit_log(&self) -> &dyn AuditLog {
        &*self.inner.parts.audit
    }

    fn roles(&self) -> &dyn Roles {
        &*self.inner.parts.roles
    }

    fn permissions(&self) -> &Permissions {
        &self.inner.parts.permissions
    }

    fn directory(&self) -> &dyn Directory {
        &*self.inner.parts.directory
    }

    /// Where a request comes from.
    fn origin(&self, extensions: &Extensions) -> Origin {
        let address = extensions.get::<PeerAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        let request_id = self.inner.parts.request_ids.fetch_add(1, Ordering::Relaxed);
        Origin { transport: None, address, address_proven: true, request_id }
    }

    /// The account of a session's bearer, or of an API key.
    async fn account_of(&self, token: &str) -> Result<Arc<Account>, Fault> {
        if token.starts_with(bearer::API_KEY) {
            return self.account_of_key(token).await;
        }
        let verified = self.inner.bearers.verify(token, self.now())?;
        let account = self.account(verified.account).await?;
        if account.tenant != verified.tenant || account.session_epoch != verified.epoch {
            return Err(Fault::unauthenticated("the account's sessions were ended; sign in at `/api/auth/login`"));
        }
        Ok(account)
    }

    async fn account_of_key(&self, key: &str) -> Result<Arc<Account>, Fault> {
        let unknown = || Fault::unauthenticated("the API key is unknown, expired or removed");
        let (digest, now) = (self.token_digest("api-key", key), self.now());
        let (account, expires_at) = match self.inner.keys.get(&digest) {
            Some(known) => known,
            None => {
                let (account, expires_at) = self.directory().api_key_holder(digest, now).await?.ok_or_else(unknown)?;
                self.inner.keys.insert(digest, (account.id, expires_at));
                (account.id, expires_at)
            }
        };
        if expires_at.is_some_and(|until| until <= now) {
            return Err(unknown());
        }
        self.account(account).await
    }

    async fn account(&self, id: UserId) -> Result<Arc<Account>, Fault> {
        if let Some(account) = self.inner.accounts.get(&id) {
            return Ok(account);
        }
        match self.directory().account(id).await {
            Ok(account) => {
                let account = Arc::new(account);
                self.inner.accounts.insert(account.id, Arc::clone(&account));
                Ok(account)
            }
            Err(DirectoryError::Unavailable) => Err(Fault::unavailable()),
            Err(_) => Err(Fault::unauthenticated("the account is gone; sign in as another")),
        }
    }

    /// What roles grant to an account. Not looked up where no rule asks for a grant.
    async fn grants_of(&self, account: &Account) -> Result<Grants, Fault> {
        let asked = self.permissions().claim == ClaimPermission::Granted;
        if !asked || account.authority == Authority::TenantAdmin {
            return Ok(Grants::default());
        }
        if let Some(grants) = self.inner.grants.get(&account.id) {
            return Ok(grants);
        }
        let grants = self.roles().grants(account.id).await?;
        self.inner.grants.insert(account.id, grants);
        Ok(grants)
    }

    /// What changed a role or a group makes all grants be looked up again: any number of accounts may have it.
    fn forget_grants(&self) {
        self.inner.grants.invalidate_all();
    }

    /// What changed an account makes it be looked up again.
    fn forget_account(&self, id: UserId) {
        self.inner.accounts.invalidate(&id);
    }
}
