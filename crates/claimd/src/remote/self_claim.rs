//! The doctor's own claim over every transport: a device, a customer and its user are made, the device announces itself as
//! any device does, the user claims it, and all are removed again. Only the audit log remembers.

use serde_json::{Value, json};
use simulator::{Addresses, Answer, Device, Encoding, Manner, Transport, body};
use ureq::http::Method;

use super::client::{Client, segment};
use super::{Done, Stop, profile};
use crate::doctor::Check;

/// One line a transport, or one that says why there are none.
pub(crate) fn self_claim(profile: &str, mut to: Addresses) -> Vec<Check> {
    let trouble = |stop: Stop| Check::fault("self-claim", stop.what, stop.next);
    let maker = match profile::server(profile).and_then(|(url, key)| Client::at(&url, Some(key))) {
        Ok(maker) => maker,
        Err(stop) => return vec![trouble(stop)],
    };
    to.http = maker.url().trim_start_matches("http://").to_owned();
    let cast = match Cast::assemble(&maker) {
        Ok(cast) => cast,
        Err(stop) => return vec![trouble(stop)],
    };
    let offered = |transport: &Transport| match transport {
        Transport::Mqtt | Transport::Mqtt5 => !to.mqtt.is_empty(),
        Transport::Ws => !to.ws.is_empty(),
        Transport::Coap => !to.coap.is_empty(),
        Transport::Http => true,
    };
    let mut checks: Vec<Check> =
        Transport::ALL.into_iter().filter(offered).map(|transport| cast.claim(&maker, transport, &to)).collect();
    checks.extend(cast.leave(&maker).err().map(trouble));
    checks
}

/// Who is made for it.
struct Cast {
    /// Tells this run from others.
    mark: String,
    customer: String,
    owner: Client,
}

const NEXT: &str = "see the server's log; `claimd watch` says why a claim is refused";

impl Cast {
    fn assemble(maker: &Client) -> Done<Self> {
        let mark = random()?;
        let title = format!("claimd doctor {mark}");
        let made = maker.ask(Method::POST, "/api/customer", Some(&json!({"title": title})))?;
        let customer = id(&made);
        // Whatever else fails, the customer goes, and its user with it.
        let owner = Self::owner(maker, &mark, &customer);
        owner.map(|owner| Self { mark, customer: customer.clone(), owner }).inspect_err(|_| {
            let _ = maker.ask(Method::DELETE, &format!("/api/customer/{customer}"), None);
        })
    }

    /// A user of the customer, signed in.
    fn owner(maker: &Client, mark: &str, customer: &str) -> Done<Client> {
        let (email, password) = (format!("doctor-{mark}@claimd.invalid"), random()?);
        let user = json!({"email": email, "authority": "CUSTOMER_USER",
            "customerId": {"entityType": "CUSTOMER", "id": customer}});
        let user = maker.ask(Method::POST, "/api/user?sendActivationMail=false", Some(&user))?;
        let link = maker.get(&format!("/api/user/{}/activationLink", id(&user)))?;
        let link = link.as_str().unwrap_or_default();
        let token = link.split("activateToken=").nth(1).unwrap_or_default().trim();
        let body = json!({"activateToken": token, "password": password});
        let stranger = Client::at(maker.url(), None)?;
        stranger.ask(Method::POST, "/api/noauth/activate?sendActivationMail=false", Some(&body))?;
        let body = json!({"username": email, "password": password});
        let pair = stranger.ask(Method::POST, "/api/auth/login", Some(&body))?;
        Client::at(maker.url(), pair["token"].as_str().map(str::to_owned))
    }

    fn claim(&self, maker: &Client, transport: Transport, to: &Addresses) -> Check {
        let check = format!("self-claim {transport}");
        match self.try_claim(maker, transport, to) {
            Ok(()) => Check::ok(check, "announced, acknowledged, claimed and removed again"),
            Err(stop) => Check::fault(check, stop.what, stop.next),
        }
    }

    fn try_claim(&self, maker: &Client, transport: Transport, to: &Addresses) -> Done {
        let (name, token, secret) = (format!("claimd-doctor-{transport}-{}", self.mark), random()?, random()?);
        let made =
            maker.ask(Method::POST, &format!("/api/device?accessToken={token}"), Some(&json!({"name": name})))?;
        let claimed = announce(transport, to, &token, &secret).and_then(|()| {
            let path = format!("/api/customer/device/{}/claim", segment(&name));
            self.owner.ask(Method::POST, &path, Some(&json!({"secretKey": secret}))).map(drop)
        });
        let removed = maker.ask(Method::DELETE, &format!("/api/device/{}", id(&made)), None);
        claimed.and(removed.map(drop))
    }

    fn leave(&self, maker: &Client) -> Done {
        maker.ask(Method::DELETE, &format!("/api/customer/{}", self.customer), None).map(drop)
    }
}

/// As a device does it.
fn announce(transport: Transport, to: &Addresses, token: &str, secret: &str) -> Done {
    let unavailable = |what: String| Stop::new(crate::out::Exit::Unavailable, what, NEXT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unavailable(format!("cannot start: {error}")))?;
    let message = body::claim(secret, None, Encoding::Json);
    let answer = runtime.block_on(async {
        let mut device = Device::connect(transport, to, token).await?;
        let answer = device.submit(&message, Manner::default()).await;
        device.close().await;
        Ok::<_, simulator::Trouble>(answer)
    });
    match answer.map_err(|trouble| unavailable(trouble.to_string()))? {
        Answer::Acked => Ok(()),
        Answer::Refused(reason) => Err(unavailable(format!("the claim was refused: {reason}"))),
        Answer::Lost | Answer::Dropped => Err(unavailable("no answer".to_owned())),
    }
}

fn id(made: &Value) -> String {
    made["id"]["id"].as_str().unwrap_or_default().to_owned()
}

/// 20 letters and digits: a password that is long enough, a token that nobody guesses.
fn random() -> Done<String> {
    let password = crate::keys::random_password();
    let password = password.ok_or_else(|| {
        Stop::new(crate::out::Exit::Unavailable, "the system has no random bytes", "check /dev/urandom")
    })?;
    Ok(password.expose().replace('-', ""))
}
