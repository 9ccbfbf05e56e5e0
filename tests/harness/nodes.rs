//! Several claimd nodes of one install: one PostgreSQL, one Redis, one master key, a loopback address for each node.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use testkit::RedisServer;

use super::{HaProxy, Server, World, postgres};

/// See the module's head.
pub struct Nodes {
    pub all: Vec<Server>,
    /// The balancer's address: the only one whose PROXY headers are read.
    pub balancer: Ipv4Addr,
    _store: RedisServer,
}

impl Nodes {
    /// With settings that all share, and limits that do not stop a test's rounds.
    pub fn start(count: u8, settings: &[(&str, &str)]) -> Self {
        let store = RedisServer::start();
        let [backend, database] = postgres::settings();
        // A net of its own, so that a node can come back to its ports.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let (process, net) = (std::process::id() % 100, NEXT.fetch_add(1, Ordering::Relaxed));
        let address = |host: u8| Ipv4Addr::new(127, 100 + process as u8, net, host);
        let balancer = address(100);
        let (redis, trusted) = (store.url(), balancer.to_string());
        let mut all: Vec<Server> = Vec::new();
        for host in 1..=count {
            let bind = format!("{}:0", address(host));
            let key = all.first().map(|first| first.data_dir().join("keys/master.key").display().to_string());
            let mut given = vec![
                (backend.0, &*backend.1),
                (database.0, &*database.1),
                ("CLAIMD_CLAIM_CACHE__BACKEND", "redis"),
                ("CLAIMD_CLAIM_CACHE__REDIS_URL", &*redis),
                ("CLAIMD_PROXY__TRUSTED", &*trusted),
                ("CLAIMD_LIMITS__SUBMIT_PER_DEVICE", "1000000"),
                ("CLAIMD_LIMITS__SUBMIT_PER_GATEWAY", "1000000"),
                ("CLAIMD_GATEWAY__NEW_DEVICES_PER_DAY", "1000000"),
                ("CLAIMD_GATEWAY__NEW_DEVICES_TOTAL", "1000000"),
            ];
            let binds = ["MQTT__BIND", "MQTT__WS_BIND", "COAP__BIND", "HTTP__BIND", "ADMIN__BIND"];
            let binds = binds.map(|key| format!("CLAIMD_{key}"));
            given.extend(binds.iter().map(|key| (&**key, &*bind)));
            if let Some(key) = &key {
                given.push(("CLAIMD_SERVER__MASTER_KEY_FILE", key));
            }
            given.extend(settings);
            let mut server = Server::with(&given);
            server.stay();
            all.push(server);
        }
        Self { all, balancer, _store: store }
    }

    /// HAProxy before all of them.
    pub fn balanced(&self) -> HaProxy {
        HaProxy::before(&self.all.iter().collect::<Vec<_>>(), self.balancer)
    }

    /// The same people at each node; made at the first.
    pub fn worlds(&self) -> Vec<World> {
        let first = World::new(&self.all[0]);
        self.all.iter().map(|node| first.moved(node)).collect()
    }
}
