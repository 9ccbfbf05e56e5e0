//! What may be asked of a running server: applications, devices, codes, claims.

pub(crate) mod accounts;
pub(crate) mod claims;
pub(crate) mod gateways;
pub(crate) mod roles;
pub(crate) mod tenants;

use clap::{Args, Subcommand};

/// Where what every command takes stands in its help.
const SERVER: &str = "Server and output";

/// Which server, as whom, and how the answer is written.
#[derive(Clone, Debug, Args)]
pub(crate) struct RemoteArgs {
    /// The profile that `claimd login` keeps
    #[arg(long, value_name = "NAME", default_value = "default", global = true, help_heading = SERVER)]
    pub(crate) profile: String,
    /// How answers are written; a table on a terminal, jsonl in a pipe without it
    #[arg(long, value_enum, value_name = "FORM", global = true, help_heading = SERVER)]
    pub(crate) output: Option<Output>,
    /// Only these members of what is answered, comma between
    #[arg(long, value_name = "NAMES", value_delimiter = ',', global = true, help_heading = SERVER)]
    pub(crate) fields: Vec<String>,
    /// Ask nothing: what would be asked is taken as a no
    #[arg(long, global = true, help_heading = SERVER)]
    pub(crate) no_input: bool,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Jsonl,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Where the server is [env: CLAIMD_CLIENT__URL]
    #[arg(
        long,
        value_name = "URL",
        env = "CLAIMD_CLIENT__URL",
        hide_env = true,
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) url: String,
    /// The account
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(crate) name: String,
    /// `@FILE`, or `-` for standard input; asked for without it
    #[arg(long, value_name = "SECRET")]
    pub(crate) password: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// A verb with what it needs.
#[derive(Debug, Args)]
pub(crate) struct With<T: Subcommand> {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(subcommand)]
    pub(crate) verb: T,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApplicationCommand {
    /// Make an application
    Create {
        /// `a-z`, `0-9` and single hyphens, 3 to 36 characters
        application: String,
        /// Whose it is (an id); the maker's without it
        #[arg(long, value_name = "ID")]
        customer: Option<String>,
        /// Do not let its devices be claimed yet
        #[arg(long)]
        closed: bool,
    },
    /// List applications
    List,
    /// Show one
    Get { application: String },
    /// Change one
    Set {
        application: String,
        /// Whether a claim spends the stored code: true, false, or inherit for the server's own setting
        #[arg(long, value_name = "true|false|inherit")]
        invalidate_code_on_claim: String,
    },
    /// Remove an application in which nothing is listed
    Delete {
        application: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let its devices be claimed
    Authorize { application: String },
    /// Let them be claimed no more; owners keep what they have
    Unauthorize { application: String },
}

/// A claim code and its window.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CodeArgs {
    /// The code, `@FILE`, or `-` for standard input
    #[arg(long, value_name = "CODE", conflicts_with = "generate_code")]
    pub(crate) code: Option<String>,
    /// Make a code; it is shown once
    #[arg(long, value_name = "base32|hex8", num_args = 0..=1, require_equals = true, default_missing_value = "base32")]
    pub(crate) generate_code: Option<String>,
    /// From when it works: RFC 3339, or `in 2 days`
    #[arg(long, value_name = "TIME")]
    pub(crate) valid_from: Option<String>,
    /// Until just before when: RFC 3339, or `in 2 days`
    #[arg(long, value_name = "TIME")]
    pub(crate) valid_to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceCreateArgs {
    pub(crate) application: String,
    /// Its id there
    pub(crate) device: String,
    /// Its name, unique in the tenant; the id without it
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Text for people
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// 16 hex digits
    #[arg(long, value_name = "EUI")]
    pub(crate) dev_eui: Option<String>,
    /// 16 hex digits
    #[arg(long, value_name = "EUI")]
    pub(crate) join_eui: Option<String>,
    /// As printed on it
    #[arg(long, value_name = "TEXT")]
    pub(crate) serial_number: Option<String>,
    /// Your own id of it, unique in the tenant
    #[arg(long, value_name = "TEXT")]
    pub(crate) external_id: Option<String>,
    /// Root key, 32 hex digits: `@FILE`, or `-` for standard input
    #[arg(long, value_name = "SECRET")]
    pub(crate) app_key: Option<String>,
    /// Root key of LoRaWAN 1.1: `@FILE`, or `-`
    #[arg(long, value_name = "SECRET")]
    pub(crate) nwk_key: Option<String>,
    #[command(flatten)]
    pub(crate) code: CodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceClaimArgs {
    /// An application of yours
    pub(crate) application: String,
    /// Its id there; as its maker named it without it
    pub(crate) device: Option<String>,
    /// 16 hex digits, as printed on it
    #[arg(long, value_name = "EUI", requires_all = ["join_eui", "code"])]
    pub(crate) dev_eui: Option<String>,
    /// 16 hex digits, as printed on it
    #[arg(long, value_name = "EUI")]
    pub(crate) join_eui: Option<String>,
    /// The code, `@FILE`, or `-` for standard input
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// The text of a QR code, `@FILE`, or `-` for standard input
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["dev_eui", "join_eui", "code"])]
    pub(crate) qr: Option<String>,
    /// Many devices: CSV with `qr`, or `dev_eui` and `join_eui`, or `name`, and `claim_authentication_code`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "dev_eui", "join_eui", "code", "qr"])]
    #[arg(required_unless_present_any = ["dev_eui", "qr"])]
    pub(crate) file: Option<std::path::PathBuf>,
    /// Read the file and claim nothing
    #[arg(long, requires = "file")]
    pub(crate) dry_run: bool,
    /// Write each row's result to this file too, as JSON lines
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(crate) report: Option<std::path::PathBuf>,
}

/// How a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DeviceState {
    /// It has an owner.
    Claimed,
    /// It has none, and its maker has not paused it.
    Open,
    /// It has none, and its maker has paused it.
    Frozen,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a device
    Create(Box<DeviceCreateArgs>),
    /// List the devices of an application
    List {
        application: String,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<DeviceState>,
        /// Only those whose id has this text
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        text: String,
    },
    /// Show a device
    Get {
        application: String,
        device: String,
        /// Also its claim code; that is audited
        #[arg(long)]
        show_code: bool,
        /// Also its root keys; that is audited, and they count as exposed from then on
        #[arg(long)]
        export_root_keys: bool,
        /// Do not ask
        #[arg(long, requires = "export_root_keys")]
        yes: bool,
    },
    /// Change a device's name, its label, its code, the code's window, or whether it must announce itself
    Set {
        application: String,
        device: String,
        /// Its name from now on, unique in the tenant
        #[arg(long)]
        name: Option<String>,
        /// Text for people; an empty one removes it
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        code: CodeArgs,
        /// Delete the code
        #[arg(long, conflicts_with_all = ["code", "generate_code", "valid_from", "valid_to"])]
        no_code: bool,
        /// Whether the code counts only with a fresh announcement
        #[arg(long, value_name = "true|false")]
        presence: Option<bool>,
    },
    /// Remove a device that has no owner
    Delete {
        application: String,
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Claim a device into an application of yours
    Claim(DeviceClaimArgs),
    /// Give devices of an application back
    Unclaim {
        application: String,
        #[arg(required = true)]
        devices: Vec<String>,
    },
    /// A device's access token
    #[command(subcommand)]
    Token(TokenCommand),
    /// Pause claiming for a device
    Freeze {
        application: String,
        device: String,
        /// For the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Go on
    Unfreeze {
        application: String,
        device: String,
        /// For the audit log
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a new one, shown once; the old one and its sessions end
    Rotate {
        application: String,
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Image {
    Png,
    Svg,
    /// In the terminal
    Utf8,
}

#[derive(Debug, Args)]
pub(crate) struct QrArgs {
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Application; or `formats`, to list those there are
    pub(crate) application: String,
    /// Device; all of the application with --all
    #[arg(conflicts_with = "all")]
    pub(crate) device: Option<String>,
    /// Every device of the application
    #[arg(long)]
    pub(crate) all: bool,
    /// tr005, claimd-url or tb-json
    #[arg(long, default_value = "tr005")]
    pub(crate) format: String,
    #[arg(long, value_enum, default_value_t = Image::Utf8)]
    pub(crate) image: Image,
    /// Pixels a side, of PNGs
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub(crate) size: u32,
    /// Folder for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: std::path::PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// Make a customer
    Create { title: String },
    /// List customers
    List,
    /// Show one, by its title
    Get { title: String },
    /// Give one another title
    Set {
        title: String,
        /// From now on
        #[arg(long = "title", value_name = "TITLE")]
        new_title: String,
    },
    /// Remove one that owns nothing, with its accounts
    Delete {
        title: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}
