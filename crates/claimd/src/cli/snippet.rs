//! The arguments of `claimd snippet`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct SnippetArgs {
    /// The language
    #[arg(long, value_enum)]
    pub(crate) lang: Lang,
    /// How it speaks to the server
    #[arg(long, value_enum)]
    pub(crate) transport: Wire,
    /// The device's name; with --gateway the child's
    #[arg(long, value_name = "NAME")]
    pub(crate) device: String,
    /// Speak as a gateway, for the device
    #[arg(long)]
    pub(crate) gateway: bool,
    /// Where the server is; as in the profile without it, else 127.0.0.1
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Its port for this transport; the usual one without it
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// The profile that `claimd login` keeps
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) profile: String,
}

/// A language with snippets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lang {
    Shell,
    Python,
    C,
    Node,
    Rust,
}

/// A transport of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wire {
    Mqtt,
    Coap,
    Http,
}
