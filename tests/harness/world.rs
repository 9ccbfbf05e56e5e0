//! A maker with two customers, set up over the ThingsBoard REST subset like any stock tool would.

use serde_json::{Value, json};

use super::server::{ADMIN, ADMIN_PASSWORD, Server};

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn ok(self) -> Value {
        assert!(self.status == 200, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// Somebody signed in, or not.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    pub base: String,
    pub bearer: Option<String>,
}

impl Client {
    pub fn stranger(http: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(super::server::PATIENCE))
            // A server may end a connection after any answer; a request that is not repeatable would meet its end.
            .max_idle_connections(0)
            .allow_non_standard_methods(true)
            .build()
            .new_agent();
        Self { agent, base: format!("http://{http}"), bearer: None }
    }

    pub fn sign_in(http: &str, email: &str, password: &str) -> Self {
        let mut client = Self::stranger(http);
        let pair = client.post("/api/auth/login", &json!({"username": email, "password": password})).ok();
        client.bearer = Some(pair["token"].as_str().expect("a token").to_owned());
        client
    }

    /// The same person at another address (after a restart).
    pub fn at(&self, http: &str) -> Self {
        Self { base: format!("http://{http}"), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, when the connection may end without an answer.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.header("X-Authorization", format!("Bearer {bearer}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).expect("a request");
        let mut response = self.agent.run(request)?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let status = response.status().as_u16();
        Ok(Answer { status, headers, body: response.body_mut().read_to_string().unwrap_or_default() })
    }

    /// An owner's claim by name, with the body as it is.
    pub fn claim_raw(&self, name: &str, body: &str) -> Answer {
        self.send("POST", &claim_path(name), &[("Content-Type", "application/json")], body)
    }

    pub fn claim(&self, name: &str, secret: &str) -> Answer {
        self.claim_raw(name, &json!({"secretKey": secret}).to_string())
    }

    /// `None` when the connection ended without an answer.
    pub fn try_claim(&self, name: &str, secret: &str) -> Option<Answer> {
        let body = json!({"secretKey": secret}).to_string();
        self.try_send("POST", &claim_path(name), &[("Content-Type", "application/json")], &body).ok()
    }

    pub fn unclaim(&self, name: &str) -> Answer {
        self.delete(&claim_path(name))
    }
}

pub fn claim_path(name: &str) -> String {
    format!("/api/customer/device/{}/claim", encode(name))
}

/// Percent-encodes a path segment.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// A customer and its user.
#[derive(Clone)]
pub struct Owner {
    pub customer: String,
    pub email: String,
    pub password: String,
    pub client: Client,
}

/// The maker and two customers.
pub struct World {
    pub maker: Client,
    pub alice: Owner,
    pub bob: Owner,
}

/// A device as its maker made it.
#[derive(Clone, Debug)]
pub struct Made {
    pub id: String,
    pub name: String,
    pub token: String,
}

impl World {
    pub fn new(server: &Server) -> Self {
        let maker = Client::sign_in(&server.http, ADMIN, ADMIN_PASSWORD);
        let alice = owner(&maker, server, "Alice");
        let bob = owner(&maker, server, "Bob");
        Self { maker, alice, bob }
    }

    pub fn device(&self, name: &str) -> Made {
        self.device_of(name, &json!({"name": name, "type": "default"}))
    }

    pub fn gateway(&self, name: &str) -> Made {
        self.device_of(name, &json!({"name": name, "type": "default", "additionalInfo": {"gateway": true}}))
    }

    pub fn device_of_profile(&self, name: &str, profile: &str, gateway: bool) -> Made {
        let mut body = json!({"name": name, "type": profile});
        if gateway {
            body["additionalInfo"] = json!({"gateway": true});
        }
        self.device_of(name, &body)
    }

    fn device_of(&self, name: &str, body: &Value) -> Made {
        let token = format!("T{}", uuid::Uuid::new_v4().simple());
        let made = self.maker.post(&format!("/api/device?accessToken={token}"), body).ok();
        let id = made["id"]["id"].as_str().expect("an id").to_owned();
        Made { id, name: name.to_owned(), token }
    }

    /// A profile `transport`/`PROTOBUF|JSON`.
    pub fn profile(&self, name: &str, transport: &str, payload: &str, json_compatible: bool) {
        let payload =
            json!({"transportPayloadType": payload, "enableCompatibilityWithJsonPayloadFormat": json_compatible});
        let configuration = match transport {
            "MQTT" => json!({"type": "MQTT", "transportPayloadTypeConfiguration": payload}),
            _ => json!({"type": "COAP", "coapDeviceTypeConfiguration":
                {"coapDeviceType": "DEFAULT", "transportPayloadTypeConfiguration": payload}}),
        };
        let body =
            json!({"name": name, "transportType": transport, "profileData": {"transportConfiguration": configuration}});
        self.maker.post("/api/deviceProfile", &body).ok();
    }

    /// Who owns a device: the customer's id, or `None`.
    pub fn owner_of(&self, device: &Made) -> Option<String> {
        let shown = self.maker.get(&format!("/api/device/{}", device.id)).ok();
        let customer = shown["customerId"]["id"].as_str().expect("a customer id").to_owned();
        (customer != "13814000-1dd2-11b2-8080-808080808080").then_some(customer)
    }

    /// The same people at the server's new address.
    pub fn moved(&self, server: &Server) -> Self {
        let owner = |owner: &Owner| Owner { client: owner.client.at(&server.http), ..owner.clone() };
        Self { maker: self.maker.at(&server.http), alice: owner(&self.alice), bob: owner(&self.bob) }
    }
}

pub fn owner(maker: &Client, server: &Server, title: &str) -> Owner {
    let customer = maker.post("/api/customer", &json!({"title": title})).ok();
    let customer = customer["id"]["id"].as_str().expect("an id").to_owned();
    user(maker, server, &customer, &format!("{}@example.com", title.to_lowercase()))
}

/// Another user of a customer, activated by the link.
pub fn user(maker: &Client, server: &Server, customer: &str, email: &str) -> Owner {
    let password = format!("the password of {email}");
    let body =
        json!({"email": email, "authority": "CUSTOMER_USER", "customerId": {"entityType": "CUSTOMER", "id": customer}});
    let user = maker.post("/api/user?sendActivationMail=false", &body).ok();
    let id = user["id"]["id"].as_str().expect("an id").to_owned();
    let link = maker.get(&format!("/api/user/{id}/activationLink"));
    let token = link.body.split("activateToken=").nth(1).expect("a token").trim().to_owned();
    let activation = json!({"activateToken": token, "password": password});
    Client::stranger(&server.http).post("/api/noauth/activate?sendActivationMail=false", &activation).ok();
    let client = Client::sign_in(&server.http, email, &password);
    Owner { customer: customer.to_owned(), email: email.to_owned(), password, client }
}
