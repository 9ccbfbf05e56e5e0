//! The install's keys, for operators: which there are, and new ones in their place.

use axum::Json;
use axum::extract::State;
use claim::applications::By;
use claim::keys::{MasterRotation, SigningKey};
use claim_codes::window::show_instant;
use serde::Serialize;
use utoipa::ToSchema;

use super::One;
use crate::Api;
use crate::extract::Caller;
use crate::reply::Fault;

/// A key that signs bearers, or did; never the key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SigningKeyJson {
    kid: String,
    created_at: String,
    /// Until when what it signed is good; left out: it signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
}

impl From<&SigningKey> for SigningKeyJson {
    fn from(key: &SigningKey) -> Self {
        Self {
            kid: key.kid.clone(),
            created_at: show_instant(key.created_at),
            valid_until: key.valid_until.map(show_instant),
        }
    }
}

/// How far the last rotation of the master key is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MasterJson {
    /// Whether values are being sealed anew.
    going_on: bool,
    /// Values sealed anew by the last rotation since the start of the server.
    resealed: u64,
}

impl From<MasterRotation> for MasterJson {
    fn from(rotation: MasterRotation) -> Self {
        Self { going_on: rotation.going_on, resealed: rotation.resealed }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysJson {
    /// First the one that signs.
    signing_keys: Vec<SigningKeyJson>,
    master: MasterJson,
}

fn shown(keys: &[SigningKey]) -> Vec<SigningKeyJson> {
    keys.iter().map(SigningKeyJson::from).collect()
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller) -> One<KeysJson> {
    caller.operator()?;
    let keys = api.inner.parts.signing_keys.signing_keys(api.now()).await?;
    api.inner.bearers.replace(&keys);
    let master = api.inner.parts.master_keys.rotation().into();
    Ok(Json(KeysJson { signing_keys: shown(&keys), master }))
}

pub(crate) async fn rotate_jwt(State(api): State<Api>, caller: Caller) -> One<Vec<SigningKeyJson>> {
    let by = By { account: caller.operator()?.id, now: api.now() };
    // A bearer signed just now lives that long.
    let until = by.now.plus(api.config().bearer_lifetime);
    // By itself: whoever asked may hang up, and then the old key would go on signing here.
    let rotating = tokio::spawn(async move {
        let store = &api.inner.parts.signing_keys;
        let rotated = store.rotate_signing_key(until, by).await;
        let current = match &rotated {
            Ok(keys) => Ok(keys.clone()),
            // It may have been made all the same.
            Err(_) => store.signing_keys(api.now()).await,
        };
        if let Ok(keys) = current {
            api.inner.bearers.replace(&keys);
        }
        rotated
    });
    let keys = rotating.await.map_err(|_| Fault::unavailable())??;
    Ok(Json(shown(&keys)))
}

pub(crate) async fn rotate_master(State(api): State<Api>, caller: Caller) -> One<MasterJson> {
    let by = By { account: caller.operator()?.id, now: api.now() };
    api.inner.parts.master_keys.rotate(by).await?;
    Ok(Json(api.inner.parts.master_keys.rotation().into()))
}
