//! Every section. Components own theirs; the sections shared by several are here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claim::limits::{AttemptBudgets, IntakeLimits};
use claim::permissions::Permissions;
use claim::policy::{ClaimPolicy, GatewayPolicy};
use listener::IpNet;
use registry::Backend;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::Fault;

/// All settings. Equal to `config/claimd.toml` by test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) admin: Admin,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) proxy: Proxy,
    pub(crate) claim: ClaimPolicy,
    pub(crate) gateway: GatewayPolicy,
    pub(crate) attempts: AttemptBudgets,
    pub(crate) permissions: Permissions,
    pub(crate) mqtt: transport_mqtt::Config,
    pub(crate) coap: transport_coap::Config,
    pub(crate) http: transport_http::Config,
    pub(crate) owner_api: api::Config,
    pub(crate) codes: Codes,
    pub(crate) manifest: Manifest,
    pub(crate) claim_cache: claim_cache::Config,
    pub(crate) registry: registry::Config,
}

/// Claim codes that are generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Codes {
    /// Whether the last of the 16 symbols is a check: 75 random bits instead of 80, and a mistyped code is known as such.
    pub(crate) check_symbol: bool,
}

/// Whose manifests of secure elements are believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Manifest {
    /// PEM files of the certificates that sign manifests.
    pub(crate) log_signers: Vec<String>,
    /// PEM files of the roots that devices' certificates lead to.
    pub(crate) roots: Vec<String>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Folder of the database and the claim journal.
    pub(crate) data_dir: String,
    /// File of the 32-byte master key; empty: `keys/master.key` in the data folder.
    pub(crate) master_key_file: String,
    /// Where people reach this server, for links; empty: the address of the HTTP listener.
    pub(crate) public_url: String,
    /// How long a stopping server says so on `/readyz` before it stops accepting.
    #[serde(with = "humantime_serde")]
    pub(crate) drain_notice: Duration,
    /// How long a stopping server lets requests in flight finish.
    #[serde(with = "humantime_serde")]
    pub(crate) drain_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            data_dir: "./claimd-data".to_owned(),
            master_key_file: String::new(),
            public_url: String::new(),
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Server {
    /// Where the master key is.
    pub(crate) fn key_file(&self) -> PathBuf {
        match self.master_key_file.as_str() {
            "" => Path::new(&self.data_dir).join("keys/master.key"),
            file => PathBuf::from(file),
        }
    }
}

/// Log lines, on stderr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `text` or `json`.
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, or directives such as `warn,transport_coap=debug`.
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The first account, made when there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bootstrap {
    /// Its e-mail; empty: `admin`.
    pub(crate) admin_email: String,
    /// Its password; empty: a random one, printed once.
    pub(crate) admin_password: String,
}

/// Health, readiness and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// Address and port.
    pub(crate) bind: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: "127.0.0.1:9464".to_owned() }
    }
}

/// Bounds shared by the listeners, and the rates of what devices send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Largest body of a device's message, bytes.
    pub(crate) payload_bytes: usize,
    /// Largest header of an HTTP request, bytes.
    pub(crate) http_header_bytes: usize,
    /// Longest target of an HTTP request, bytes.
    pub(crate) http_uri_bytes: usize,
    /// Open connections of one listener.
    pub(crate) connections: usize,
    /// Open connections of one address at one listener.
    pub(crate) connections_per_address: usize,
    /// Connections that have not signed in yet, of one listener; beyond it the oldest is closed.
    pub(crate) unauthenticated: usize,
    /// The same, of one address.
    pub(crate) unauthenticated_per_address: usize,
    /// Claim messages of one device in a minute.
    pub(crate) submit_per_device: u32,
    /// Claim entries of one gateway in a minute.
    pub(crate) submit_per_gateway: u32,
    /// Refused device credentials of one address in a minute.
    pub(crate) auth_failures_per_address: u32,
    /// How long an address then waits.
    #[serde(with = "humantime_serde")]
    pub(crate) auth_lockout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let intake = IntakeLimits::default();
        Self {
            payload_bytes: 64 * 1024,
            http_header_bytes: 16 * 1024,
            http_uri_bytes: 4 * 1024,
            connections: 100_000,
            connections_per_address: 10_000,
            unauthenticated: 8_192,
            unauthenticated_per_address: 1_024,
            submit_per_device: intake.submit_per_device,
            submit_per_gateway: intake.submit_per_gateway,
            auth_failures_per_address: intake.auth_failures_per_address,
            auth_lockout: intake.auth_lockout,
        }
    }
}

impl Limits {
    pub(crate) fn intake(&self) -> IntakeLimits {
        IntakeLimits {
            submit_per_device: self.submit_per_device,
            submit_per_gateway: self.submit_per_gateway,
            auth_failures_per_address: self.auth_failures_per_address,
            auth_lockout: self.auth_lockout,
        }
    }
}

/// How long we wait for others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// A WebSocket (later: TLS) handshake.
    #[serde(with = "humantime_serde")]
    pub(crate) tls_handshake: Duration,
    /// The whole MQTT CONNECT; and before it, on every listener, a balancer's PROXY header.
    #[serde(with = "humantime_serde")]
    pub(crate) connect: Duration,
    /// The header of an HTTP request, and an idle kept-alive connection.
    #[serde(with = "humantime_serde")]
    pub(crate) http_header: Duration,
    /// A whole HTTP request.
    #[serde(with = "humantime_serde")]
    pub(crate) http_request: Duration,
    /// A store's answer.
    #[serde(with = "humantime_serde")]
    pub(crate) store: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            tls_handshake: ten,
            connect: ten,
            http_header: ten,
            http_request: Duration::from_secs(30),
            store: Duration::from_secs(2),
        }
    }
}

/// Balancers before this node, which say whose connection they pass on (PROXY protocol, version 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Proxy {
    /// Their addresses, or prefixes of them such as `10.0.0.0/28`. They must send a header; nobody else's is read.
    pub(crate) trusted: Vec<String>,
    /// Largest header, bytes, 52 to 65,551.
    pub(crate) header_bytes: usize,
    /// Connections of one listener whose header has not come; beyond it the oldest of them is closed.
    pub(crate) awaited: usize,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { trusted: Vec::new(), header_bytes: 4096, awaited: 1024 }
    }
}

impl Proxy {
    /// The prefixes; and what is none.
    fn parsed(&self) -> (Vec<IpNet>, Vec<&str>) {
        let (mut nets, mut others) = (Vec::new(), Vec::new());
        for text in &self.trusted {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match net {
                Ok(net) => nets.push(net),
                Err(_) => others.push(text.as_str()),
            }
        }
        (nets, others)
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = (self.parsed().1.into_iter())
            .map(|text| {
                Fault::plain(format!("`proxy.trusted`: \"{text}\" is no address"))
                    .next("write addresses or prefixes like \"10.0.0.5\", \"10.0.0.0/28\", \"2001:db8::/64\"")
            })
            .collect();
        let range = listener::Proxy::SMALLEST..=listener::Proxy::LARGEST;
        if !range.contains(&self.header_bytes) {
            let fault = Fault::plain(format!("`proxy.header_bytes` is {}", self.header_bytes));
            faults.push(fault.next(format!("give {} to {}", range.start(), range.end())));
        }
        faults
    }
}

impl Settings {
    /// All keys with their defaults.
    pub(super) fn tree() -> Value {
        serde_json::to_value(Settings::default()).unwrap_or_default()
    }

    /// Whether a key's value must not be shown.
    pub(super) fn is_secret(key: &str) -> bool {
        matches!(key, "bootstrap.admin_password" | "claim_cache.redis_url" | "registry.url")
    }

    /// Values that are fine each and wrong together, or out of their range.
    pub(super) fn contradictions(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut positive = |key: &str, value: u64| {
            if value == 0 {
                let next = "give 1 or more; there is no switch for unlimited";
                faults.push(Fault::plain(format!("`{key}` is 0")).why("it would refuse everything").next(next));
            }
        };
        positive("limits.payload_bytes", self.limits.payload_bytes as u64);
        positive("limits.http_header_bytes", self.limits.http_header_bytes as u64);
        positive("limits.http_uri_bytes", self.limits.http_uri_bytes as u64);
        positive("limits.connections", self.limits.connections as u64);
        positive("limits.connections_per_address", self.limits.connections_per_address as u64);
        positive("limits.unauthenticated", self.limits.unauthenticated as u64);
        positive("limits.unauthenticated_per_address", self.limits.unauthenticated_per_address as u64);
        positive("limits.submit_per_device", self.limits.submit_per_device.into());
        positive("limits.submit_per_gateway", self.limits.submit_per_gateway.into());
        positive("limits.auth_failures_per_address", self.limits.auth_failures_per_address.into());
        positive("proxy.awaited", self.proxy.awaited as u64);
        positive("attempts.per_account", self.attempts.per_account.into());
        positive("attempts.per_account_and_device", self.attempts.per_account_and_device.into());
        positive("attempts.per_device", self.attempts.per_device.into());
        positive("permissions.roles_per_tenant", self.permissions.roles_per_tenant.into());
        positive("permissions.groups_per_customer", self.permissions.groups_per_customer.into());
        positive("permissions.users_per_group", self.permissions.users_per_group.into());
        positive("gateway.batch_devices", self.gateway.batch_devices as u64);
        positive("claim.lifetime_default", self.claim.lifetime_default.as_millis() as u64);
        positive("claim.lifetime_max", self.claim.lifetime_max.as_millis() as u64);
        positive("timeouts.store", self.timeouts.store.as_millis() as u64);
        positive("mqtt.receive_maximum", self.mqtt.receive_maximum.into());
        positive("mqtt.subscriptions", self.mqtt.subscriptions as u64);
        positive("mqtt.outbound_queue_bytes", self.mqtt.outbound_queue_bytes as u64);
        positive("mqtt.keep_alive_max", self.mqtt.keep_alive_max.as_secs());
        positive("http.waiting", self.http.waiting as u64);
        positive("http.waiting_per_device", self.http.waiting_per_device as u64);
        positive("owner_api.body_bytes", self.owner_api.body_bytes as u64);
        positive("owner_api.bearer_lifetime", self.owner_api.bearer_lifetime.as_secs());
        positive("owner_api.refresh_lifetime", self.owner_api.refresh_lifetime.as_secs());
        positive("owner_api.activation_lifetime", self.owner_api.activation_lifetime.as_secs());
        positive("owner_api.api_keys_per_account", self.owner_api.api_keys_per_account.into());
        positive("owner_api.applications_per_customer", self.owner_api.applications_per_customer.into());
        positive("owner_api.devices_per_customer", self.owner_api.devices_per_customer.into());
        positive("owner_api.live_viewers", self.owner_api.live_viewers as u64);
        positive("owner_api.live_queue", self.owner_api.live_queue as u64);
        positive("owner_api.wrong_passwords_per_account", self.owner_api.wrong_passwords_per_account.into());
        positive("owner_api.wrong_passwords_per_address", self.owner_api.wrong_passwords_per_address.into());
        positive("claim_cache.max_pending_per_tenant", self.claim_cache.max_pending_per_tenant);
        positive("claim_cache.attempt_keys", self.claim_cache.attempt_keys as u64);
        positive("claim_cache.redis_queue", self.claim_cache.redis_queue as u64);
        positive("registry.queue", self.registry.queue as u64);
        positive("registry.group", self.registry.group as u64);
        positive("registry.readers", self.registry.readers as u64);
        positive("registry.connections", self.registry.connections as u64);
        faults.extend(self.proxy.faults());
        for (what, next) in self.claim_cache.faults() {
            faults.push(Fault::plain(what).next(next));
        }
        for fault in self.coap.faults() {
            faults.push(Fault::plain(fault.to_string()));
        }
        match (self.registry.backend, self.registry.url.is_empty()) {
            (Backend::Postgres, true) => faults.push(
                Fault::plain("`registry.backend` is postgres and `registry.url` is not given")
                    .next("give `registry.url`, best by CLAIMD_REGISTRY__URL_FILE"),
            ),
            (Backend::Sqlite, false) => faults.push(
                Fault::plain("`registry.url` is given and `registry.backend` is sqlite")
                    .why("the database would stay unused")
                    .next("give `registry.backend = \"postgres\"`, or leave out `registry.url`"),
            ),
            _ => {}
        }
        if self.registry.lookup_age > Duration::from_secs(10) {
            let fault = Fault::plain("`registry.lookup_age` is more than 10s");
            faults.push(fault.why("a revoked credential would be taken for that long").next("give 10s or less"));
        }
        if self.claim.lifetime_default > self.claim.lifetime_max {
            let next = "raise `claim.lifetime_max` or lower `claim.lifetime_default`";
            faults.push(
                Fault::plain("`claim.lifetime_default` is longer than `claim.lifetime_max`")
                    .why("every claim without a lifetime of its own would be shortened")
                    .next(next),
            );
        }
        if !self.bootstrap.admin_password.is_empty() && self.bootstrap.admin_password.len() < 12 {
            let fault = Fault::plain("`bootstrap.admin_password` is shorter than 12 bytes");
            faults.push(fault.next("give 12 to 256 bytes, or leave it out for a random one"));
        }
        faults
    }
}

/// What the shared sections say to each component.
impl Settings {
    pub(crate) fn connection_limits(&self) -> listener::Limits {
        listener::Limits {
            connections: self.limits.connections,
            connections_per_address: self.limits.connections_per_address,
            unauthenticated: self.limits.unauthenticated,
            unauthenticated_per_address: self.limits.unauthenticated_per_address,
        }
    }

    pub(crate) fn proxy(&self) -> listener::Proxy {
        listener::Proxy {
            trusted: self.proxy.parsed().0,
            header_bytes: self.proxy.header_bytes,
            awaited: self.proxy.awaited,
            patience: self.timeouts.connect,
        }
    }

    pub(crate) fn mqtt_limits(&self) -> transport_mqtt::Limits {
        transport_mqtt::Limits {
            payload_bytes: self.limits.payload_bytes,
            connect_timeout: self.timeouts.connect,
            handshake_timeout: self.timeouts.tls_handshake,
            submit_per_device: self.limits.submit_per_device,
            submit_per_gateway: self.limits.submit_per_gateway,
        }
    }

    pub(crate) fn coap_limits(&self) -> transport_coap::Limits {
        transport_coap::Limits {
            payload_bytes: self.limits.payload_bytes,
            auth_failures_per_address: self.limits.auth_failures_per_address,
            store_timeout: self.timeouts.store,
        }
    }

    pub(crate) fn http_limits(&self) -> transport_http::Limits {
        transport_http::Limits {
            payload_bytes: self.limits.payload_bytes,
            header_bytes: self.limits.http_header_bytes,
            uri_bytes: self.limits.http_uri_bytes,
            header_timeout: self.timeouts.http_header,
            request_timeout: self.timeouts.http_request,
        }
    }
}
