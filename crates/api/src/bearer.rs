//! Bearers: short-lived JWTs under one algorithm and the install's own key.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claim::directory::Account;
use claim::keys::SigningKey;
use claim::owner::Authority;
use claim::{Secret, TenantId, Timestamp, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::NO_CUSTOMER;
use crate::reply::Fault;

const ISSUER: &str = "claimd";
/// What API keys begin with, so that they are known where they should not be.
pub(crate) const API_KEY: &str = "clk_";

/// A random token: 256 bits.
pub(crate) fn random_token() -> Result<Secret<String>, Fault> {
    let mut bytes = Secret::new([0_u8; 32]);
    getrandom::fill(bytes.expose_mut()).map_err(|_| Fault::unavailable())?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes.expose())))
}

/// What a bearer says; ThingsBoard's names, so that its clients can read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    sub: String,
    user_id: Uuid,
    scopes: Vec<String>,
    tenant_id: Uuid,
    customer_id: Uuid,
    iss: String,
    iat: i64,
    exp: i64,
    /// Bearers of an older epoch than the account's are void (password changed).
    epoch: i64,
}

/// Why a bearer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BearerFault {
    Bad,
    Expired,
}

/// Who a bearer speaks for; whether that account still exists is for the caller to look up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) account: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) epoch: i64,
}

pub(crate) struct Bearers {
    keys: RwLock<Arc<Keys>>,
    validation: Validation,
    lifetime: Duration,
}

/// The key that signs, and all whose bearers are taken.
#[derive(Default)]
struct Keys {
    signing: Option<Signing>,
    taken: Vec<TakenKey>,
}

struct Signing {
    kid: String,
    encoding: EncodingKey,
    created_at: Timestamp,
}

struct TakenKey {
    kid: String,
    decoding: DecodingKey,
    valid_until: Option<Timestamp>,
}

impl From<&[SigningKey]> for Keys {
    fn from(keys: &[SigningKey]) -> Self {
        let signing = keys.iter().find(|key| key.valid_until.is_none());
        Self {
            signing: signing.map(|key| Signing {
                kid: key.kid.clone(),
                encoding: EncodingKey::from_secret(key.key.expose()),
                created_at: key.created_at,
            }),
            taken: keys
                .iter()
                .map(|key| TakenKey {
                    kid: key.kid.clone(),
                    decoding: DecodingKey::from_secret(key.key.expose()),
                    valid_until: key.valid_until,
                })
                .collect(),
        }
    }
}

impl Bearers {
    pub(crate) fn new(keys: &[SigningKey], lifetime: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // The clock is ours: `now` is compared below, so that what is tested is what runs.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { keys: RwLock::new(Arc::new(keys.into())), validation, lifetime }
    }

    /// From now on these keys count, and no other. Keys whose signing one is older than the one that signs now were read
    /// before it was made, by a rotation that a later one has overtaken: they are left aside.
    pub(crate) fn replace(&self, keys: &[SigningKey]) {
        let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let new = Keys::from(keys);
        let older = |held: &Signing| match &new.signing {
            // Made in the same millisecond: whichever set knows the other's key is the later one.
            Some(new) if new.created_at == held.created_at => !keys.iter().any(|key| key.kid == held.kid),
            Some(new) => new.created_at < held.created_at,
            None => true,
        };
        if !held.signing.as_ref().is_some_and(older) {
            *held = Arc::new(new);
        }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn issue(&self, account: &Account, now: Timestamp) -> Option<String> {
        let (scope, customer) = match account.authority {
            Authority::TenantAdmin => ("TENANT_ADMIN", NO_CUSTOMER),
            Authority::CustomerUser(customer) => ("CUSTOMER_USER", customer.uuid()),
        };
        let claims = Claims {
            sub: account.email.clone(),
            user_id: account.id.uuid(),
            scopes: vec![scope.to_owned()],
            tenant_id: account.tenant.uuid(),
            customer_id: customer,
            iss: ISSUER.to_owned(),
            iat: now.as_millis() / 1000,
            exp: now.plus(self.lifetime).as_millis() / 1000,
            epoch: account.session_epoch,
        };
        let keys = self.keys();
        let Signing { kid, encoding: key, .. } = keys.signing.as_ref()?;
        let header = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, key).ok()
    }

    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, BearerFault> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| BearerFault::Bad)?;
        let keys = self.keys();
        let key = keys.taken.iter().find(|key| header.kid.as_ref() == Some(&key.kid)).ok_or(BearerFault::Bad)?;
        if key.valid_until.is_some_and(|until| until <= now) {
            return Err(BearerFault::Expired);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &self.validation)
            .map_err(|_| BearerFault::Bad)?
            .claims;
        if now.as_millis() / 1000 >= claims.exp {
            return Err(BearerFault::Expired);
        }
        Ok(Verified { account: claims.user_id.into(), tenant: claims.tenant_id.into(), epoch: claims.epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const QUARTER: Duration = Duration::from_secs(15 * 60);

    fn account() -> Account {
        Account {
            id: UserId::random(),
            tenant: TenantId::random(),
            authority: Authority::TenantAdmin,
            operator: false,
            email: "a@example.com".to_owned(),
            first_name: None,
            last_name: None,
            additional_info: None,
            created_at: NOW,
            session_epoch: 3,
        }
    }

    fn signing_key(kid: &str, key: u8, valid_until: Option<Timestamp>) -> SigningKey {
        SigningKey { kid: kid.to_owned(), key: Arc::new(Secret::new(vec![key; 32])), created_at: NOW, valid_until }
    }

    fn bearers(key: u8) -> Bearers {
        Bearers::new(&[signing_key("k1", key, None)], QUARTER)
    }

    #[test]
    fn what_an_older_key_signed_is_good_until_the_key_ends_and_new_bearers_name_the_new_key() {
        let (bearers, account) = (bearers(1), account());
        let old = bearers.issue(&account, NOW).expect("a token");
        let late = bearers.issue(&account, NOW.plus(QUARTER)).expect("a token");
        let until = NOW.plus(QUARTER);
        bearers.replace(&[signing_key("k2", 2, None), signing_key("k1", 1, Some(until))]);
        let new = bearers.issue(&account, NOW).expect("a token");
        let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a header").kid;
        assert_eq!((kid(&old).as_deref(), kid(&new).as_deref()), (Some("k1"), Some("k2")));
        let last = until.minus(Duration::from_secs(1));
        for token in [&old, &late, &new] {
            assert!(bearers.verify(token, last).is_ok());
        }
        assert_eq!(bearers.verify(&late, until), Err(BearerFault::Expired), "its key ends before it does");
        bearers.replace(&[signing_key("k1", 1, None)]);
        assert!(bearers.verify(&new, NOW).is_ok(), "what was read earlier and came later");
        bearers.replace(&[signing_key("k2", 2, None)]);
        assert_eq!(bearers.verify(&old, NOW), Err(BearerFault::Bad));
        assert!(bearers.verify(&new, NOW).is_ok());
        // The answer of one rotation was lost, and the next knows the held key no more.
        let later = SigningKey { created_at: NOW.plus(QUARTER), ..signing_key("k4", 4, None) };
        bearers.replace(&[later, signing_key("k3", 3, Some(until))]);
        assert_eq!(bearers.verify(&new, NOW), Err(BearerFault::Bad));
        assert_eq!(kid(&bearers.issue(&account, NOW).expect("a token")).as_deref(), Some("k4"));
    }

    #[test]
    fn a_bearer_names_its_account_until_it_expires() {
        let (bearers, account) = (bearers(1), account());
        let token = bearers.issue(&account, NOW).expect("a token");
        let verified = bearers.verify(&token, NOW.plus(QUARTER - Duration::from_secs(1))).expect("valid");
        assert_eq!(verified, Verified { account: account.id, tenant: account.tenant, epoch: 3 });
        assert_eq!(bearers.verify(&token, NOW.plus(QUARTER)), Err(BearerFault::Expired));
    }

    #[test]
    fn forged_unsigned_and_foreign_tokens_are_refused() {
        let (bearers, account) = (bearers(1), account());
        let good = bearers.issue(&account, NOW).expect("a token");
        let parts: Vec<&str> = good.split('.').collect();
        let header = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let foreign = super::tests::bearers(2).issue(&account, NOW).expect("a token");
        let other_kid = Bearers::new(&[signing_key("k2", 1, None)], QUARTER).issue(&account, NOW).expect("a token");
        let hs512 = jsonwebtoken::encode(
            &Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS512) },
            &serde_json::json!({"sub": "a", "iss": "claimd", "exp": i64::MAX}),
            &EncodingKey::from_secret(&[1; 32]),
        )
        .expect("a token");
        let signed = |claims: serde_json::Value| {
            let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&[1; 32])).expect("a token")
        };
        let whole = serde_json::json!({"sub": "a", "userId": account.id.uuid(), "scopes": [], "iat": 0, "epoch": 0,
            "tenantId": account.tenant.uuid(), "customerId": NO_CUSTOMER, "iss": "claimd", "exp": NOW.as_millis()});
        let without = |name: &str| {
            let mut claims = whole.clone();
            claims.as_object_mut().expect("an object").remove(name);
            signed(claims)
        };
        assert!(bearers.verify(&signed(whole.clone()), NOW).is_ok());
        let mut other_issuer = whole.clone();
        other_issuer["iss"] = "thingsboard.io".into();
        for (case, token) in [
            ("other key", foreign),
            ("other key id", other_kid),
            ("other algorithm", hs512),
            ("unsigned", format!("{}.{}.", header(r#"{"alg":"none","kid":"k1"}"#), parts[1])),
            ("signature cut", format!("{}.{}.", parts[0], parts[1])),
            ("no expiry", without("exp")),
            ("no issuer", without("iss")),
            ("no user", without("userId")),
            ("other issuer", signed(other_issuer)),
            ("text", "not a token".to_owned()),
            ("nothing", String::new()),
        ] {
            assert_eq!(bearers.verify(&token, NOW), Err(BearerFault::Bad), "{case}");
        }
    }
}
