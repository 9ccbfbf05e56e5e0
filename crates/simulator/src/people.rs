//! People over the HTTP API: makers set devices up, owners claim them. The calls are those of ThingsBoard's clients.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::transport::Web;
use crate::transport::whole;
use crate::trouble::Trouble;

/// Somebody signed in.
#[derive(Clone)]
pub struct Person {
    web: Web,
    bearer: String,
}

/// A maker: the admin of a tenant.
#[derive(Clone)]
pub struct Maker(Person);

/// An owner: a customer's user.
#[derive(Clone)]
pub struct Owner {
    person: Person,
    /// The customer, in whose name devices are owned.
    pub customer: String,
    /// The account.
    pub email: String,
}

/// The answer to an owner's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The device is the owner's now.
    Claimed,
    /// It has been the owner's before, or (in ThingsBoard's disclosure) somebody's.
    AlreadyClaimed,
    /// No; with the server's reason where it gives one.
    Refused(Option<String>),
    /// Too many wrong tries, or a store that does not answer: nothing was decided.
    NotNow(&'static str),
}

impl ClaimAnswer {
    /// The reason as a report counts it.
    pub fn reason(&self) -> String {
        match self {
            Self::Claimed => "claimed".to_owned(),
            Self::AlreadyClaimed => "already_claimed".to_owned(),
            Self::Refused(reason) => reason.clone().unwrap_or_else(|| "refused".to_owned()),
            Self::NotNow(why) => (*why).to_owned(),
        }
    }
}

impl Person {
    /// Signs in at the server at `host:port`.
    pub async fn sign_in(http: &str, email: &str, password: &str) -> Result<Self, Trouble> {
        let mut person = Self { web: Web::new(http), bearer: String::new() };
        let body = json!({"username": email, "password": password});
        let pair = person.ask(&format!("signing in as {email}"), Method::POST, "/api/auth/login", Some(&body)).await?;
        person.bearer = text(&pair["token"], "signing in")?;
        Ok(person)
    }

    async fn ask(&self, what: &str, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Trouble> {
        let response = self.send(method, path, body).await?;
        if response.status == StatusCode::OK {
            return Ok(response.json());
        }
        let json = response.json();
        let said = json["message"].as_str().or_else(|| json["detail"].as_str()).map(str::to_owned);
        let said = said.unwrap_or_else(|| response.text());
        Err(Trouble::Refused { what: what.to_owned(), status: response.status.as_u16(), said })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<crate::transport::Response, Trouble> {
        let bearer = format!("Bearer {}", self.bearer);
        let mut headers = Vec::new();
        if !self.bearer.is_empty() {
            headers.push(("x-authorization", bearer.as_str()));
        }
        let bytes = match body {
            Some(body) => {
                headers.push(("content-type", "application/json"));
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        self.web.send(method, path, &headers, whole(bytes)).await
    }

    /// Follows the activation link of a user just made, and signs in.
    async fn activate(&self, user: &Value, email: &str, password: &str) -> Result<Self, Trouble> {
        let id = text(&user["id"]["id"], "making a user")?;
        let link = self.send(Method::GET, &format!("/api/user/{id}/activationLink"), None).await?.text();
        let token = link.split("activateToken=").nth(1).unwrap_or_default().trim();
        let body = json!({"activateToken": token, "password": password});
        let what = format!("activating {email}");
        self.ask(&what, Method::POST, "/api/noauth/activate?sendActivationMail=false", Some(&body)).await?;
        let address = self.web.base().trim_start_matches("http://");
        Self::sign_in(address, email, password).await
    }

    /// The same person at the server's new address.
    fn at(&self, http: &str) -> Self {
        Self { web: Web::new(http), bearer: self.bearer.clone() }
    }
}

fn text(value: &Value, what: &str) -> Result<String, Trouble> {
    value.as_str().map(str::to_owned).ok_or_else(|| Trouble::odd(what, value))
}

impl Maker {
    /// Signs in.
    pub async fn sign_in(http: &str, email: &str, password: &str) -> Result<Self, Trouble> {
        Person::sign_in(http, email, password).await.map(Self)
    }

    /// A new tenant and its first admin; the caller must be the operator.
    pub async fn new_tenant(&self, title: &str, email: &str, password: &str) -> Result<Self, Trouble> {
        let tenant = self.0.ask("making a tenant", Method::POST, "/api/tenant", Some(&json!({"title": title}))).await?;
        let body = json!({"email": email, "authority": "TENANT_ADMIN", "tenantId": tenant["id"]});
        let path = "/api/user?sendActivationMail=false";
        let user = self.0.ask("making a tenant's admin", Method::POST, path, Some(&body)).await?;
        self.0.activate(&user, email, password).await.map(Self)
    }

    /// A new customer with a user.
    pub async fn new_owner(&self, title: &str, email: &str, password: &str) -> Result<Owner, Trouble> {
        let body = json!({"title": title});
        let customer = self.0.ask("making a customer", Method::POST, "/api/customer", Some(&body)).await?;
        let customer = text(&customer["id"]["id"], "making a customer")?;
        let body = json!({"email": email, "authority": "CUSTOMER_USER",
            "customerId": {"entityType": "CUSTOMER", "id": customer}});
        let path = "/api/user?sendActivationMail=false";
        let user = self.0.ask("making a user", Method::POST, path, Some(&body)).await?;
        let person = self.0.activate(&user, email, password).await?;
        Ok(Owner { person, customer, email: email.to_owned() })
    }

    /// A profile whose devices write protobuf.
    pub async fn protobuf_profile(&self, name: &str) -> Result<(), Trouble> {
        let body = json!({"name": name, "transportType": "MQTT", "profileData": {"transportConfiguration":
            {"type": "MQTT", "transportPayloadTypeConfiguration": {"transportPayloadType": "PROTOBUF"}}}});
        match self.0.ask("making a profile", Method::POST, "/api/deviceProfile", Some(&body)).await {
            // It is there from an earlier run.
            Err(Trouble::Refused { status: 400, .. }) => Ok(()),
            made => made.map(drop),
        }
    }

    /// A new device with this access token; its id.
    pub async fn new_device(&self, name: &str, profile: &str, token: &str, gateway: bool) -> Result<String, Trouble> {
        let mut body = json!({"name": name, "type": profile});
        if gateway {
            body["additionalInfo"] = json!({"gateway": true});
        }
        let path = format!("/api/device?accessToken={token}");
        let device = self.0.ask(&format!("making the device {name}"), Method::POST, &path, Some(&body)).await?;
        text(&device["id"]["id"], "making a device")
    }

    /// The customer that owns a device, if any.
    pub async fn owner_of(&self, name: &str) -> Result<Option<String>, Trouble> {
        let path = format!("/api/tenant/devices?deviceName={}", encode(name));
        let device = self.0.ask("looking a device up", Method::GET, &path, None).await?;
        let customer = text(&device["customerId"]["id"], "looking a device up")?;
        Ok((customer != NOBODY).then_some(customer))
    }

    /// The same maker at the server's new address.
    pub fn at(&self, http: &str) -> Self {
        Self(self.0.at(http))
    }
}

/// ThingsBoard's id of nobody.
const NOBODY: &str = "13814000-1dd2-11b2-8080-808080808080";

impl Owner {
    /// Signs in.
    pub async fn sign_in(http: &str, email: &str, password: &str) -> Result<Self, Trouble> {
        let person = Person::sign_in(http, email, password).await?;
        let user = person.ask("looking oneself up", Method::GET, "/api/auth/user", None).await?;
        let customer = text(&user["customerId"]["id"], "looking oneself up")?;
        Ok(Self { person, customer, email: email.to_owned() })
    }

    /// Claims a device by name with the secret that the device announced.
    pub async fn claim(&self, name: &str, secret: &str) -> Result<ClaimAnswer, Trouble> {
        let path = format!("/api/customer/device/{}/claim", encode(name));
        let response = self.person.send(Method::POST, &path, Some(&json!({"secretKey": secret}))).await?;
        let json = response.json();
        Ok(match response.status.as_u16() {
            200 if json["response"] == "SUCCESS" => ClaimAnswer::Claimed,
            400 if json == "CLAIMED" => ClaimAnswer::AlreadyClaimed,
            400 | 404 => ClaimAnswer::Refused(None),
            403 => ClaimAnswer::Refused(Some("forbidden".to_owned())),
            429 => ClaimAnswer::NotNow("rate_limited"),
            503 => ClaimAnswer::NotNow("unavailable"),
            status => return Err(Trouble::Odd { what: "a claim".to_owned(), came: format!("status {status}") }),
        })
    }

    /// Gives a device back.
    pub async fn unclaim(&self, name: &str) -> Result<(), Trouble> {
        let path = format!("/api/customer/device/{}/claim", encode(name));
        self.person.ask(&format!("unclaiming {name}"), Method::DELETE, &path, None).await.map(drop)
    }

    /// The same owner at the server's new address.
    pub fn at(&self, http: &str) -> Self {
        Self { person: self.person.at(http), ..self.clone() }
    }

    /// The token that requests carry, for lines to paste.
    pub fn bearer(&self) -> &str {
        &self.person.bearer
    }
}

/// A path segment or query value, percent-encoded (RFC 3986 §2.1).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn names_survive_a_path() {
        assert_eq!(encode("Dev A/1"), "Dev%20A%2F1");
        assert_eq!(encode("pump-7_é.~"), "pump-7_%C3%A9.~");
    }
}
