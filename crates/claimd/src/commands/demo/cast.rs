//! Who takes part: a server, its maker, two owners.

use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString as _};
use simulator::people::{Maker, Owner};
use simulator::{Answer, Device, Encoding, Manner, Transport, Trouble, body};

use super::super::simulate::End;
use super::server::Server;

/// A claim that was acknowledged.
#[derive(Clone)]
pub(super) struct Announced {
    pub(super) name: String,
    pub(super) secret: String,
}

/// Everybody, signed in.
pub(super) struct Cast {
    pub(super) server: Server,
    pub(super) maker: Maker,
    pub(super) alice: Owner,
    pub(super) bob: Owner,
    pub(super) passwords: Passwords,
}

/// Made for this run; shown by `--keep`.
pub(super) struct Passwords {
    pub(super) operator: String,
    pub(super) maker: String,
    pub(super) alice: String,
    pub(super) bob: String,
}

pub(super) const OPERATOR: &str = "operator@demo.example";
pub(super) const MAKER: &str = "maker@demo.example";

impl Cast {
    /// Starts the server and makes the accounts.
    pub(super) async fn assemble(children: u32) -> Result<Self, End> {
        let password = || Alphanumeric.sample_string(&mut rand::rng(), 20);
        let passwords = Passwords { operator: password(), maker: password(), alice: password(), bob: password() };
        let settings = [
            ("CLAIMD_BOOTSTRAP__ADMIN_EMAIL", OPERATOR.to_owned()),
            ("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD", passwords.operator.clone()),
            // A stranger may play on with `--keep`, in a day of his own.
            ("CLAIMD_GATEWAY__NEW_DEVICES_PER_DAY", (children + 1_000).to_string()),
            ("CLAIMD_GATEWAY__NEW_DEVICES_TOTAL", (children + 10_000).to_string()),
        ];
        let server = Server::start(&settings).await.map_err(|why| End::Usage(why, "see the lines above"))?;
        let http = &server.addresses.http;
        let operator = Maker::sign_in(http, OPERATOR, &passwords.operator).await?;
        let maker = operator.new_tenant("Demo maker", MAKER, &passwords.maker).await?;
        let alice = maker.new_owner("Alice", "alice@demo.example", &passwords.alice).await?;
        let bob = maker.new_owner("Bob", "bob@demo.example", &passwords.bob).await?;
        Ok(Self { server, maker, alice, bob, passwords })
    }

    /// The server dies and comes back; everybody finds its new address.
    pub(super) async fn crash(&mut self) -> Result<(), End> {
        let fault = |why| End::Usage(why, "see the lines above");
        self.server.kill_dash_nine().await.map_err(fault)?;
        self.server.restart().await.map_err(fault)?;
        let http = &self.server.addresses.http;
        self.maker = self.maker.at(http);
        self.alice = self.alice.at(http);
        self.bob = self.bob.at(http);
        Ok(())
    }

    /// A new device; its access token.
    pub(super) async fn device(&self, name: &str, gateway: bool) -> Result<String, End> {
        let token = Alphanumeric.sample_string(&mut rand::rng(), 24);
        self.maker.new_device(name, "default", &token, gateway).await?;
        Ok(token)
    }

    /// One acknowledged claim over MQTT 5.
    pub(super) async fn claim_once(&self, token: &str, secret: &str, lifetime: Option<Duration>) -> Result<(), End> {
        let mut device = Device::connect(Transport::Mqtt5, &self.server.addresses, token).await?;
        let answer = device.submit(&body::claim(secret, lifetime, Encoding::Json), Manner::default()).await;
        device.close().await;
        match answer {
            Answer::Acked => Ok(()),
            other => {
                Err(End::Trouble(Trouble::Odd { what: "a device's claim".to_owned(), came: format!("{other:?}") }))
            }
        }
    }
}
