//! `claimd snippet`: a program that says that a device may be claimed, ready to run.
//!
//! A snippet holds no token and no secret; both come from its environment. Whatever stands in a device's name is quoted
//! for the language it is written into, and put in once: what is put in is never looked through for more to put in.

mod quote;
#[cfg(test)]
mod tests;

use claim::DeviceName;

use crate::cli::snippet::{Lang, SnippetArgs, Wire};
use crate::out::{self, Exit};
use crate::remote;

/// A program with gaps, written as `{{gap}}`.
struct Snippet {
    lang: Lang,
    wire: Wire,
    gateway: bool,
    text: &'static str,
}

macro_rules! snippet {
    ($lang:ident, $wire:ident, $gateway:literal, $file:literal) => {
        Snippet {
            lang: Lang::$lang,
            wire: Wire::$wire,
            gateway: $gateway,
            text: include_str!(concat!("snippet/templates/", $file)),
        }
    };
}

/// All there are; each is run by a test against a real server. Gateways' batches are MQTT's alone.
const SNIPPETS: [Snippet; 11] = [
    snippet!(Shell, Mqtt, false, "shell_mqtt.sh"),
    snippet!(Shell, Mqtt, true, "shell_mqtt_gateway.sh"),
    snippet!(Shell, Coap, false, "shell_coap.sh"),
    snippet!(Shell, Http, false, "shell_http.sh"),
    snippet!(Python, Mqtt, false, "python_mqtt.py"),
    snippet!(Python, Mqtt, true, "python_mqtt_gateway.py"),
    snippet!(Python, Coap, false, "python_coap.py"),
    snippet!(Python, Http, false, "python_http.py"),
    snippet!(C, Coap, false, "c_coap.c"),
    snippet!(Node, Http, false, "node_http.mjs"),
    snippet!(Rust, Http, false, "rust_http.rs"),
];

/// Prints the snippet that is asked for.
pub(crate) fn run(args: &SnippetArgs) -> Exit {
    let known = args.host.is_none().then(|| remote::server_address(&args.profile)).flatten();
    match written(args, known) {
        Ok(text) => {
            out::data(text.trim_end());
            Exit::Done
        }
        Err(Fault { what, next }) => {
            out::error(what, &next);
            Exit::Usage
        }
    }
}

/// What is wrong with the command line, and what to do.
#[derive(Debug)]
struct Fault {
    what: String,
    next: String,
}

fn fault(what: impl Into<String>, next: impl Into<String>) -> Fault {
    Fault { what: what.into(), next: next.into() }
}

/// `known`: the host and HTTP port of the server that the user is signed in at.
fn written(args: &SnippetArgs, known: Option<(String, u16)>) -> Result<String, Fault> {
    let device =
        DeviceName::parse(&args.device).map_err(|why| fault(why.text(), "give the name as the maker set it"))?;
    let snippet = SNIPPETS.iter().find(|s| (s.lang, s.wire, s.gateway) == (args.lang, args.transport, args.gateway));
    let snippet = snippet.ok_or_else(|| {
        let who = if args.gateway { " of a gateway" } else { "" };
        let what = format!("there is no snippet{who} in {} over {}", args.lang.name(), args.transport.name());
        fault(what, format!("there is: {}", table(args.gateway)))
    })?;
    let (known_host, known_http) = known.unzip();
    let host = args.host.clone().or(known_host).unwrap_or_else(|| "127.0.0.1".to_owned());
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
        return Err(fault(format!("`{host}` is no host"), "give a name or an address"));
    }
    let usual = match args.transport {
        Wire::Mqtt => 1883,
        Wire::Coap => 5683,
        Wire::Http => known_http.unwrap_or(8080),
    };
    let port = args.port.unwrap_or(usual);
    let authority = if plain.contains(':') { format!("[{plain}]:{port}") } else { format!("{plain}:{port}") };
    Ok(filled(snippet.text, |gap| match gap {
        "device" => device.to_string(),
        "literal" => quote::literal(args.lang, device.as_str()),
        "confirm" => confirm(&device),
        "host" => plain.to_owned(),
        "host_literal" => quote::literal(args.lang, plain),
        "port" => port.to_string(),
        "authority_literal" => quote::literal(args.lang, &authority),
        "base" => format!("{}://{authority}", args.transport.name()),
        // Braces that belong to the program.
        other => format!("{{{{{other}}}}}"),
    }))
}

/// What the owner types, as a line for a shell.
fn confirm(device: &DeviceName) -> String {
    let quoted = quote::shell(device.as_str());
    if device.as_str().starts_with('-') {
        return format!("claimd claim confirm --secret @code.txt -- {quoted}");
    }
    format!("claimd claim confirm {quoted} --secret @code.txt")
}

/// Fills the gaps, each once.
fn filled(text: &str, gap: impl Fn(&str) -> String) -> String {
    let (mut whole, mut rest) = (String::with_capacity(text.len() * 2), text);
    while let Some((before, after)) = rest.split_once("{{") {
        whole.push_str(before);
        let Some((name, behind)) = after.split_once("}}").filter(|(name, _)| is_gap(name)) else {
            whole.push_str("{{");
            rest = after;
            continue;
        };
        whole.push_str(&gap(name));
        rest = behind;
    }
    whole.push_str(rest);
    whole
}

fn is_gap(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// What there is, for whoever asked for something else.
fn table(gateway: bool) -> String {
    let all = SNIPPETS.iter().filter(|snippet| snippet.gateway == gateway);
    all.map(|snippet| format!("{} {}", snippet.lang.name(), snippet.wire.name())).collect::<Vec<_>>().join(", ")
}

impl Lang {
    fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Python => "python",
            Self::C => "c",
            Self::Node => "node",
            Self::Rust => "rust",
        }
    }
}

impl Wire {
    fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Coap => "coap",
            Self::Http => "http",
        }
    }
}
