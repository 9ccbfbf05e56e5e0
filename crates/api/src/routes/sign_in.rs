//! Sign-in: passwords for token pairs, refresh, activation.

use axum::extract::State;
use axum::{Extension, Json};
use claim::Secret;
use claim::directory::{Account, RefreshSession, RefreshUse};
use listener::PeerAddress;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::One;
use crate::Api;
use crate::bearer::random_token;
use crate::extract::{Caller, Sent};
use crate::model::UserJson;
use crate::passwords::{PasswordFault, Passwords};
use crate::reply::Fault;

/// Names and passwords beyond this are refused before any work on them.
const TYPED_BYTES: usize = 1024;

#[derive(Deserialize, ToSchema)]
pub(crate) struct SignIn {
    /// The e-mail.
    username: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Activation {
    activate_token: String,
    /// 12 to 256 bytes.
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewPassword {
    current_password: String,
    /// 12 to 256 bytes.
    new_password: String,
}

/// A bearer and what renews it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenPair {
    /// JWT, good for `owner_api.bearer_lifetime`.
    token: String,
    /// Good once, for `owner_api.refresh_lifetime`.
    refresh_token: String,
}

impl From<PasswordFault> for Fault {
    fn from(fault: PasswordFault) -> Self {
        match fault {
            PasswordFault::Length | PasswordFault::Common => Fault::bad_request(fault.text()),
            PasswordFault::Busy => Fault::unavailable(),
        }
    }
}

impl Api {
    pub(crate) fn token_digest(&self, purpose: &str, token: &str) -> [u8; 32] {
        self.inner.parts.keyring.token_digest(purpose, token.as_bytes())
    }

    fn pair(&self, account: &Account, refresh: &Secret<String>) -> One<TokenPair> {
        let token = self.inner.bearers.issue(account, self.now()).ok_or_else(Fault::unavailable)?;
        Ok(Json(TokenPair { token, refresh_token: refresh.expose().clone() }))
    }

    async fn open_session(&self, account: &Account) -> One<TokenPair> {
        let refresh = random_token()?;
        let session = RefreshSession {
            digest: self.token_digest("refresh", refresh.expose()),
            account: account.id,
            family: *uuid::Uuid::new_v4().as_bytes(),
            expires_at: self.now().plus(self.config().refresh_lifetime),
        };
        self.directory().open_session(session).await?;
        self.pair(account, &refresh)
    }

    /// The account of a name and a password. An unknown name costs what a wrong password costs.
    async fn check(&self, name: &str, password: String, peer: PeerAddress) -> Result<Account, Fault> {
        let password = Secret::new(password);
        if name.len() > TYPED_BYTES || password.expose().len() > TYPED_BYTES {
            return Err(Fault::bad_request("the name or the password is longer than any can be"));
        }
        let throttle = &self.inner.throttle;
        let reserved = throttle.reserve(name, peer.0, self.now()).map_err(|wait| {
            self.limit_reached("owner_api.wrong_passwords");
            Fault::too_many(wait)
        })?;
        let found = match self.directory().account_by_email(name.to_owned()).await {
            Ok(found) => found,
            Err(error) => {
                throttle.refund(&reserved);
                return Err(error.into());
            }
        };
        let (account, hash) = found.map_or((None, None), |(account, hash)| (Some(account), hash));
        let right = match self.inner.parts.passwords.verify(password, hash).await {
            Ok(right) => right,
            Err(fault) => {
                throttle.refund(&reserved);
                return Err(fault.into());
            }
        };
        match account {
            Some(account) if right => {
                throttle.refund(&reserved);
                Ok(account)
            }
            _ => Err(Fault::unauthenticated("Invalid username or password")),
        }
    }
}

pub(crate) async fn login(
    State(api): State<Api>,
    Extension(peer): Extension<PeerAddress>,
    Sent(request): Sent<SignIn>,
) -> One<TokenPair> {
    let account = api.check(&request.username, request.password, peer).await?;
    api.open_session(&account).await
}

pub(crate) async fn refresh(State(api): State<Api>, Sent(request): Sent<Refresh>) -> One<TokenPair> {
    let (successor, now) = (random_token()?, api.now());
    let spent = api.token_digest("refresh", &request.refresh_token);
    let next = api.token_digest("refresh", successor.expose());
    let until = now.plus(api.config().refresh_lifetime);
    match api.directory().rotate_session(spent, next, until, now).await? {
        RefreshUse::Rotated(account) => api.pair(&api.directory().account(account).await?, &successor),
        // One answer for both: whoever replays a stolen token learns nothing, and its family has ended.
        RefreshUse::Unknown | RefreshUse::Replayed => {
            Err(Fault::unauthenticated("the refresh token is unknown, expired or used; sign in at `/api/auth/login`"))
        }
    }
}

pub(crate) async fn me(caller: Caller) -> Json<UserJson> {
    Json(UserJson::from(&*caller.0))
}

pub(crate) async fn change_password(
    State(api): State<Api>,
    caller: Caller,
    Extension(peer): Extension<PeerAddress>,
    Sent(request): Sent<NewPassword>,
) -> One<TokenPair> {
    Passwords::acceptable(&request.new_password, &caller.0.email)?;
    let account = api.check(&caller.0.email, request.current_password, peer).await?;
    let hash = api.inner.parts.passwords.hash(Secret::new(request.new_password)).await?;
    api.directory().set_password(account.id, hash).await?;
    api.forget_account(account.id);
    api.open_session(&api.directory().account(account.id).await?).await
}

pub(crate) async fn activate(State(api): State<Api>, Sent(request): Sent<Activation>) -> One<TokenPair> {
    Passwords::acceptable(&request.password, "")?;
    let hash = api.inner.parts.passwords.hash(Secret::new(request.password)).await?;
    let digest = api.token_digest("activation", &request.activate_token);
    match api.directory().activate(digest, hash, api.now()).await? {
        Some(account) => {
            api.forget_account(account.id);
            api.open_session(&account).await
        }
        None => Err(Fault::bad_request("the activation token is unknown, used or expired; ask for a new link")),
    }
}

pub(crate) async fn activation_page() -> &'static str {
    "Set your password by POSTing {\"activateToken\":\"…\",\"password\":\"…\"} to this address, with the token of your link \
     and a password of 12 to 256 bytes.\n"
}
