//! The command line: what may be asked for. What is done about it is in `commands` and `serve`.

pub(crate) mod audit;
pub(crate) mod imports;
pub(crate) mod keys;
pub(crate) mod moving;
pub(crate) mod remote;
pub(crate) mod snippet;
pub(crate) mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Hands connected devices from their maker to their owner.
///
/// Devices say "I may be claimed" over MQTT, CoAP or HTTP; an owner confirms over HTTP. Start with `claimd demo` to watch it
/// work, or `claimd serve` to run it; both need no configuration.
#[derive(Debug, Parser)]
#[command(name = "claimd", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Check the configuration and list every fault in it
    CheckConfig(ConfigArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a server on this machine how it is; exits with 0 when all is well
    Health(HealthArgs),
    /// Look at all that a server needs of its machine and its stores; exits with 1 when something is at fault
    Doctor(DoctorArgs),
    /// Write everything but pending claims and the master key to a folder, while the server runs
    Backup(moving::BackupArgs),
    /// Bring a backup back into an empty store, SQLite or PostgreSQL
    Restore(moving::RestoreArgs),
    /// The store's schema, and moving to another store
    #[command(subcommand)]
    Migrate(moving::MigrateCommand),
    /// Watch a whole life: three transports, a gateway, owners, a kill -9
    Demo(DemoArgs),
    /// Play devices, gateways or owners against a running server
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Put load on a running server: claims arrive whether or not it keeps up
    Load(LoadArgs),
    /// Sign in at a running server and keep a key for it
    Login(remote::LoginArgs),
    /// Remove the key, here and there
    Logout(remote::PlainArgs),
    /// Who I am at the server
    Whoami(remote::PlainArgs),
    /// Applications: lists of devices that may be claimed, or not
    Application(remote::With<remote::ApplicationCommand>),
    /// Devices in applications, their codes, and claiming them
    Device(remote::With<remote::DeviceCommand>),
    /// Customers, who own devices
    Customer(remote::With<remote::CustomerCommand>),
    /// Tenants: makers with all that is theirs (operators)
    Tenant(remote::With<remote::tenants::TenantCommand>),
    /// Accounts of people
    Account(remote::With<remote::accounts::AccountCommand>),
    /// Gateways, and the devices they speak for
    Gateway(remote::With<remote::gateways::GatewayCommand>),
    /// Roles: what the groups that have them may do
    Role(remote::With<remote::roles::RoleCommand>),
    /// Groups of a customer's users, and their roles
    Group(remote::With<remote::roles::GroupCommand>),
    /// The audit log and its chain of hashes
    Audit(remote::With<audit::AuditCommand>),
    /// The install's keys, for operators
    Keys(remote::With<keys::KeysCommand>),
    /// Claims by a device's name
    Claim(remote::With<remote::claims::ClaimCommand>),
    /// Register many devices from a file
    Import(imports::ImportArgs),
    /// Write an application's devices to a file
    Export(imports::ExportArgs),
    /// See each claim message as it comes in, and why one was refused
    Watch(watch::WatchArgs),
    /// Print a program that claims a device, in your language
    Snippet(snippet::SnippetArgs),
    /// QR codes of devices, on the terminal or as files
    Qr(remote::QrArgs),
    /// Which claimd this is
    Version {
        /// How it is written
        #[arg(long, value_enum, value_name = "FORM", default_value_t = VersionForm::Text)]
        output: VersionForm,
    },
    /// Completions for a shell, on standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Manual pages, one a command
    Man {
        /// Folder for them
        #[arg(long, value_name = "DIR", default_value = "man")]
        out: PathBuf,
    },
}

/// How the version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VersionForm {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// TOML file; without one the defaults hold [env: CLAIMD_CONFIG]
    #[arg(long, value_name = "FILE", env = "CLAIMD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of the database, the claim journal and the master key (`server.data_dir`)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write the addresses really bound to this file, as one JSON object, once everything accepts
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look (`log.format`)
    #[arg(long, value_name = "json|text")]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Where its operators' listener is, instead of `admin.bind`
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<std::net::SocketAddr>,
    /// Whether it is to be sent work (`/readyz`), not only whether it lives (`/healthz`)
    #[arg(long)]
    pub(crate) ready: bool,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) within: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Folder of the database, the claim journal and the master key (`server.data_dir`)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Claim a device of its own over every transport of the server that runs, and remove it again; needs a maker's profile
    #[arg(long)]
    pub(crate) self_claim: bool,
    /// The maker's profile that `claimd login` keeps, for --self-claim
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) profile: String,
    /// The file that `serve --ready-file` wrote, where ports are given by the system
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How the findings are written
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Auto)]
    pub(crate) output: Form,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the merged configuration as TOML
    Print {
        #[command(flatten)]
        config: ConfigArgs,
        /// Hide secrets
        #[arg(long)]
        redacted: bool,
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Devices on each transport
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) devices: u32,
    /// Children of the gateway
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) children: u32,
    /// Leave the server running, with lines to paste, until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Where the server is, and who signs in there.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// HTTP: device API and owner API
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080",
        env = "CLAIMD_CLIENT__HTTP",
        hide_env = true
    )]
    pub(crate) http: String,
    /// MQTT over TCP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub(crate) mqtt: String,
    /// MQTT over WebSocket; a path /mqtt may follow
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8083")]
    pub(crate) ws: String,
    /// CoAP over UDP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5683")]
    pub(crate) coap: String,
    /// The maker's account, which makes the devices; its password is in CLAIMD_CLIENT__ADMIN_PASSWORD, or in the file that
    /// CLAIMD_CLIENT__ADMIN_PASSWORD_FILE names
    #[arg(long, value_name = "EMAIL", default_value = "admin")]
    pub(crate) admin_email: String,
    /// How the report is written
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Auto)]
    pub(crate) output: Form,
    /// Repeats a run: the same secrets, the same bad behaviour
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A table on a terminal, JSON in a pipe
    Auto,
    Table,
    Json,
}

/// A transport, or all in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransportArg {
    Mqtt,
    Mqtt5,
    Ws,
    Coap,
    Http,
    /// Each in turn
    All,
}

/// What claim messages say.
#[derive(Clone, Debug, Args)]
pub(crate) struct MessageArgs {
    /// `random`, `none`, or `@FILE` for the one in a file
    #[arg(long, value_name = "SECRET", default_value = "random")]
    pub(crate) secret: String,
    /// How long claims live, such as 2m; the server's default without it
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) lifetime: Option<Duration>,
    /// What must be true at the end, or the exit code is 1: `acked=100%,p99<50ms`
    #[arg(long, value_name = "CONDITIONS")]
    pub(crate) expect: Option<String>,
}

/// How claims are written, and what an owner does about them.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlayArgs {
    /// How messages are written
    #[arg(long, value_enum, default_value_t = EncodingArg::Json)]
    pub(crate) encoding: EncodingArg,
    /// Act as owner too: confirm each claim right after its ack
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Share of confirms that first show a wrong code
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = simulator::expect::share)]
    pub(crate) wrong_rate: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SimulateCommand {
    /// Devices that announce themselves
    Device(SimulateDeviceArgs),
    /// Gateways that speak for children
    Gateway(SimulateGatewayArgs),
    /// An owner who claims devices by name
    Owner(SimulateOwnerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulateDeviceArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    #[arg(long, value_enum, default_value_t = TransportArg::Mqtt5)]
    pub(crate) transport: TransportArg,
    /// Devices on each transport
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Claims a second, of all devices together; as fast as answers come without it
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Go on for so long; each device claims once without it
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) run_for: Option<Duration>,
    #[command(flatten)]
    pub(crate) play: PlayArgs,
    /// Share of claims after which the device hangs up without waiting for the answer
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = simulator::expect::share)]
    pub(crate) drop: f64,
    /// Share of claims sent twice
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = simulator::expect::share)]
    pub(crate) duplicate: f64,
    /// Pause in the middle of each message
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) slow: Option<Duration>,
    /// A new connection for each claim
    #[arg(long)]
    pub(crate) reconnect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EncodingArg {
    Json,
    Protobuf,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateGatewayArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    /// mqtt, mqtt5 or ws
    #[arg(long, value_enum, default_value_t = TransportArg::Mqtt5)]
    pub(crate) transport: TransportArg,
    /// Gateways, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) count: u32,
    /// Children of each gateway
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) children: u32,
    /// Children in a message
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) batch: u32,
    #[command(flatten)]
    pub(crate) play: PlayArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateOwnerArgs {
    /// HTTP address of the server
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080",
        env = "CLAIMD_CLIENT__HTTP",
        hide_env = true
    )]
    pub(crate) http: String,
    /// The owner's account; its password is in CLAIMD_CLIENT__OWNER_PASSWORD, or in the file that
    /// CLAIMD_CLIENT__OWNER_PASSWORD_FILE names
    #[arg(long, value_name = "EMAIL")]
    pub(crate) owner_email: String,
    /// `none`, or `@FILE` for the one in a file, `@-` for standard input
    #[arg(long, value_name = "SECRET", default_value = "none")]
    pub(crate) secret: String,
    /// Give the devices back instead
    #[arg(long)]
    pub(crate) unclaim: bool,
    /// The devices
    #[arg(value_name = "DEVICE", required = true)]
    pub(crate) devices: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) message: MessageArgs,
    #[arg(long, value_enum, default_value_t = TransportArg::Mqtt5)]
    pub(crate) transport: TransportArg,
    /// Devices, each with a connection; each may claim 60 times a minute unless the server allows more
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Claims a second, arriving by themselves
    #[arg(long, value_name = "N", default_value = "50", value_parser = rate)]
    pub(crate) rate: f64,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) run_for: Duration,
    /// The rate grows from nothing for so long
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub(crate) ramp: Duration,
    /// Act as owner too: confirm and unclaim
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Devices beside them that pause in the middle of each message
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) slow: u32,
    /// How long those pause in each message
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) pause: Duration,
    /// Write the latencies to this file, as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) histogram: Option<PathBuf>,
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time is written like 500ms, 90s or 10m".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "a rate is a number between 0.001 and 1000000".to_owned())
}
