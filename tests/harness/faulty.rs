//! Nodes whose stores are behind proxies with faults to switch.

use std::process::Command;
use std::time::Duration;

use testkit::RedisServer;
use testkit::fault_proxy::{Door, Fault, FaultProxy, Way};

use super::postgres;
use super::{Client, Server, eventually};

/// A registry on PostgreSQL and a claim store on Redis, with a node that reaches them directly, and a proxy before each.
pub struct FaultyStores {
    pub registry: FaultProxy,
    pub claims: FaultProxy,
    pub redis: RedisServer,
    database: String,
    /// Nothing ails its stores.
    pub sound: Server,
}

/// One way in which a store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Connections are reset, and so are new ones.
    Reset,
    /// What was connected hears nothing more, and new connections are accepted by nobody.
    HalfOpen,
    /// What is asked gets lost on its way.
    Unheard,
    /// Answers come an hour late.
    Late,
    /// Answers come byte by byte, slower than anybody waits.
    SlowTrickle,
    /// Each answer ends after its first bytes.
    CutShort,
}

impl Ailment {
    pub const ALL: [Ailment; 6] =
        [Self::Reset, Self::HalfOpen, Self::Unheard, Self::Late, Self::SlowTrickle, Self::CutShort];

    pub fn strikes(self, proxy: &FaultProxy) {
        match self {
            Self::Reset => {
                proxy.door(Door::Reset);
                proxy.reset_all();
            }
            Self::HalfOpen => {
                proxy.door(Door::Mute);
                proxy.set(Way::FromStore, Fault::Swallow);
            }
            Self::Unheard => proxy.set(Way::ToStore, Fault::Swallow),
            Self::Late => proxy.set(Way::FromStore, Fault::Delay(Duration::from_secs(3_600))),
            Self::SlowTrickle => proxy.set(Way::FromStore, Fault::Trickle(Duration::from_secs(1))),
            Self::CutShort => proxy.set(Way::FromStore, Fault::CloseAfter(3)),
        }
    }
}

impl FaultyStores {
    pub fn start() -> Self {
        let redis = RedisServer::start();
        let database = postgres::server().database();
        let sound = on(&postgres::server().url(&database), &redis.url(), &[]);
        Self {
            registry: FaultProxy::before(&postgres::server().socket()),
            claims: FaultProxy::before(&redis.socket()),
            redis,
            database,
            sound,
        }
    }

    /// Another node, which reaches both through the proxies and has little patience.
    pub fn node(&self) -> Server {
        self.node_waiting("700ms")
    }

    /// The same with this `timeouts.store`.
    pub fn node_waiting(&self, patience: &str) -> Server {
        let registry = self.registry.address();
        let url = format!("host={} port={} user=claimd dbname={}", registry.ip(), registry.port(), self.database);
        let key = self.sound.data_dir().join("keys/master.key").display().to_string();
        let more = [("CLAIMD_SERVER__MASTER_KEY_FILE", key.as_str()), ("CLAIMD_TIMEOUTS__STORE", patience)];
        on(&url, &format!("redis://{}", self.claims.address()), &more)
    }
}

impl FaultyStores {
    /// `psql` on the registry's database, past the proxy; answers come bare.
    pub fn psql(&self, arguments: &[&str]) -> Command {
        let server = postgres::server();
        let mut command = Command::new(format!("{}/psql", server.bin()));
        command.arg("-At").args(arguments).arg(server.url(&self.database));
        command
    }
}

fn on(registry: &str, claims: &str, more: &[(&str, &str)]) -> Server {
    let mut settings = vec![
        ("CLAIMD_REGISTRY__BACKEND", "postgres"),
        ("CLAIMD_REGISTRY__URL", registry),
        ("CLAIMD_CLAIM_CACHE__BACKEND", "redis"),
        ("CLAIMD_CLAIM_CACHE__REDIS_URL", claims),
        ("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000"),
    ];
    settings.extend(more);
    Server::with(&settings)
}

/// The readiness of a dependency, once the node says this of it.
pub fn until_ready_says(server: &Server, dependency: &str, word: &str) {
    eventually(&format!("`{dependency}` is `{word}`"), || {
        let answer = Client::stranger(&server.admin).get("/readyz");
        let ready = answer.json();
        (ready[dependency] == word && (answer.status == 503) == (word == "down")).then_some(())
    });
}
