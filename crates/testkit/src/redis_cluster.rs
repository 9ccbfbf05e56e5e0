//! A Redis cluster of a test's own: three masters without replicas, each a [`RedisServer`], on ports of the system's choice.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::redis_server::RedisServer;
use crate::wait::eventually;

/// See the module's head. Panics when it cannot do what is asked.
pub struct RedisCluster {
    /// Its masters, each with a third of the slots at first.
    pub masters: Vec<RedisServer>,
    ports: Vec<u16>,
}

impl RedisCluster {
    /// Keeps what is written through a kill of any of its servers.
    pub fn start() -> Self {
        const FIRSTS: [u16; 4] = [0, 5461, 10923, 16384];
        let ports = free_ports(6);
        let (ports, buses) = ports.split_at(3);
        let masters: Vec<RedisServer> = ports
            .iter()
            .zip(buses)
            .map(|(port, bus)| {
                RedisServer::with(&[
                    ("port", &port.to_string()),
                    ("cluster-enabled", "yes"),
                    ("cluster-port", &bus.to_string()),
                    ("cluster-node-timeout", "2000"),
                    ("appendonly", "yes"),
                    ("appendfsync", "always"),
                ])
            })
            .collect();
        for (number, master) in masters.iter().enumerate() {
            let (first, last) = (FIRSTS[number].to_string(), (FIRSTS[number + 1] - 1).to_string());
            assert_eq!(master.say(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]), "+OK\r\n");
            assert_eq!(master.say(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]), "+OK\r\n");
        }
        for (port, bus) in ports.iter().zip(buses).skip(1) {
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()].map(str::to_owned);
            assert_eq!(masters[0].say(&meet.each_ref().map(String::as_str)), "+OK\r\n");
        }
        let cluster = Self { masters, ports: ports.to_vec() };
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until every server knows that all slots are served.
    pub fn wait_until_whole(&self) {
        eventually("the cluster is whole", || {
            let whole = |master: &RedisServer| {
                let said = master.say(&["CLUSTER", "INFO"]);
                said.contains("cluster_state:ok") && said.contains("cluster_size:3")
            };
            self.masters.iter().all(whole).then_some(())
        });
    }

    /// The address of one of its servers, as claimd is told.
    pub fn url(&self, number: usize) -> String {
        format!("redis://127.0.0.1:{}", self.ports[number])
    }

    /// Moves that many slots with all that is in them from one master to another, as operators do, while it serves.
    pub fn move_slots(&self, count: u16, from: usize, to: usize) {
        let status = Command::new("/usr/bin/redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", self.ports[from]), "--cluster-yes"])
            .args([
                "--cluster-from",
                &self.id(from),
                "--cluster-to",
                &self.id(to),
                "--cluster-slots",
                &count.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("redis-cli: `cargo xtask setup` installs it");
        assert!(status.success(), "slots were not moved");
    }

    /// Begins to move one slot by hand: until [`RedisCluster::end_move`] it is on its way, and keys may be at either.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, from_id, to_id) = (slot.to_string(), self.id(from), self.id(to));
        let importing = self.masters[to].say(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        let migrating = self.masters[from].say(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        assert_eq!((importing.as_str(), migrating.as_str()), ("+OK\r\n", "+OK\r\n"));
    }

    /// Moves what is left in a slot, whose keys must be text, and tells everyone that it has moved.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, port, to_id) = (slot.to_string(), self.ports[to].to_string(), self.id(to));
        loop {
            let said = self.masters[from].say(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<&str> = said.lines().filter(|line| !line.starts_with(['$', '*'])).collect();
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys);
            let said = self.masters[from].say(&migrate);
            // IOERR: on a busy machine the other was too slow; what is still there is tried again.
            assert!(["+OK", "+NOKEY", "-IOERR"].iter().any(|fine| said.starts_with(fine)), "{said}");
        }
        for master in [to, from].into_iter().chain((0..3).filter(|other| ![to, from].contains(other))) {
            assert_eq!(self.masters[master].say(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "+OK\r\n");
        }
    }

    /// The slot of a key, and which master serves it.
    pub fn home_of(&self, key: &str) -> (u16, usize) {
        let said = self.masters[0].say(&["CLUSTER", "KEYSLOT", key]);
        let slot = said.trim_start_matches(':').trim_end().parse().expect("a slot");
        let serves = |master: &RedisServer| !master.say(&["EXISTS", key]).starts_with("-MOVED");
        (slot, self.masters.iter().position(serves).expect("a master"))
    }

    fn id(&self, number: usize) -> String {
        let said = self.masters[number].say(&["CLUSTER", "MYID"]);
        said.lines().nth(1).expect("an id").to_owned()
    }
}

/// Ports that are free now, all different. Servers of a cluster cannot take port 0 and tell.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}
