//! What a topic means (thingsboard.md 2.1, 2.4, 2.6). Matching is by whole names: nothing is sliced by position.

use claim::BodyFormat;

use crate::config::TOPIC_BYTES;

/// What a publish is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic<'a> {
    /// The device's own claim; `None`: in its profile's format.
    Claim(Option<Encoding>),
    GatewayClaim,
    GatewayConnect,
    GatewayDisconnect,
    /// A request to the server, with its number.
    RpcRequest(&'a str),
    AttributesRequest(&'a str),
    /// ThingsBoard's, and nobody here consumes it.
    Known,
    Unknown,
}

/// An encoding named by the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(crate) fn format(self) -> BodyFormat {
        match self {
            Encoding::Json => BodyFormat::Json,
            Encoding::Protobuf => BodyFormat::Protobuf,
        }
    }
}

/// Whether a text may be a topic name: not empty, no wildcard, no U+0000 (MQTT 5 §4.7).
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '\0'])
}

impl<'a> Topic<'a> {
    pub(crate) fn parse(topic: &'a str) -> Self {
        match topic {
            "v1/devices/me/claim" | "v2/c" => return Self::Claim(None),
            "v2/c/j" => return Self::Claim(Some(Encoding::Json)),
            "v2/c/p" => return Self::Claim(Some(Encoding::Protobuf)),
            "v1/gateway/claim" => return Self::GatewayClaim,
            "v1/gateway/connect" => return Self::GatewayConnect,
            "v1/gateway/disconnect" => return Self::GatewayDisconnect,
            _ if topic.len() > TOPIC_BYTES => return Self::Unknown,
            _ => {}
        }
        let mut levels = topic.split('/');
        match (levels.next(), levels.next(), levels.next()) {
            (Some("v1"), Some("devices"), Some("me")) => {
                match (levels.next(), levels.next(), levels.next(), levels.next()) {
                    (Some("telemetry" | "attributes"), None, ..) => Self::Known,
                    (Some("attributes"), Some("request"), Some(id), None) => Self::AttributesRequest(id),
                    (Some("rpc"), Some("request"), Some(id), None) => Self::RpcRequest(id),
                    (Some("rpc"), Some("response"), Some(_), None) => Self::Known,
                    _ => Self::Unknown,
                }
            }
            (Some("v1"), Some("gateway"), Some(what)) => match (what, levels.next(), levels.next()) {
                ("telemetry" | "attributes" | "rpc", None, _) | ("attributes", Some("request"), None) => Self::Known,
                _ => Self::Unknown,
            },
            (Some("v2"), Some("t" | "a" | "r"), _) => Self::Known,
            (Some("v2"), Some("fw" | "sw"), Some("request")) => {
                match (levels.next(), levels.next(), levels.next(), levels.next()) {
                    (Some(_), Some("chunk"), Some(_), None) => Self::Known,
                    _ => Self::Unknown,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// Topics claim states are pushed on.
pub(crate) const STATE: &str = "v1/devices/me/claim/state";
pub(crate) const ATTRIBUTES: &str = "v1/devices/me/attributes";
pub(crate) const GATEWAY_ATTRIBUTES: &str = "v1/gateway/attributes";
pub(crate) const GATEWAY_RESPONSE: &str = "v1/gateway/claim/response";

/// Every filter a stock device subscribes to, and our own.
const GRANTED: [&str; 28] = [
    ATTRIBUTES,
    "v1/devices/me/attributes/response/+",
    "v1/devices/me/rpc/request/+",
    "v1/devices/me/rpc/response/+",
    "v1/devices/me/errors",
    STATE,
    GATEWAY_ATTRIBUTES,
    "v1/gateway/attributes/response",
    "v1/gateway/rpc",
    "v1/gateway/disconnect",
    GATEWAY_RESPONSE,
    "v2/a",
    "v2/a/j",
    "v2/a/p",
    "v2/a/res/+",
    "v2/a/res/j/+",
    "v2/a/res/p/+",
    "v2/r/req/+",
    "v2/r/req/j/+",
    "v2/r/req/p/+",
    "v2/r/res/+",
    "v2/r/res/j/+",
    "v2/r/res/p/+",
    "/provision/response",
    "v2/fw/response/+/chunk/+",
    "v2/sw/response/+/chunk/+",
    "v2/fw/error",
    "v2/sw/error",
];

/// What a SUBSCRIBE's filter gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Granted,
    /// Well formed; nothing is ever published there.
    Unknown,
    /// Well formed, with a wildcard that is not offered.
    Wildcard,
    Shared,
    Malformed,
}

impl Filter {
    pub(crate) fn judge(filter: &str) -> Self {
        if !well_formed(filter) {
            return Self::Malformed;
        }
        if filter == "$share" || filter.starts_with("$share/") {
            return Self::Shared;
        }
        // Also a name below an offered wildcard: some clients subscribe to the answer of one request.
        if GRANTED.iter().any(|offered| *offered == filter || (is_name(filter) && matches(offered, filter))) {
            return Self::Granted;
        }
        if filter.contains(['+', '#']) { Self::Wildcard } else { Self::Unknown }
    }
}

/// MQTT 5 §4.7.1: wildcards fill a level; `#` is the last one.
fn well_formed(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > TOPIC_BYTES || filter.contains('\0') {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && (level.len() != 1 || (level == "#" && levels.peek().is_some())) {
            return false;
        }
    }
    true
}

/// Whether a filter matches a topic name.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_mean_what_thingsboard_says() {
        for (topic, meaning) in [
            ("v1/devices/me/claim", Topic::Claim(None)),
            ("v2/c", Topic::Claim(None)),
            ("v2/c/j", Topic::Claim(Some(Encoding::Json))),
            ("v2/c/p", Topic::Claim(Some(Encoding::Protobuf))),
            ("v1/gateway/claim", Topic::GatewayClaim),
            ("v1/gateway/connect", Topic::GatewayConnect),
            ("v1/gateway/disconnect", Topic::GatewayDisconnect),
            ("v1/devices/me/telemetry", Topic::Known),
            ("v1/devices/me/attributes", Topic::Known),
            ("v1/devices/me/attributes/request/7", Topic::AttributesRequest("7")),
            ("v1/devices/me/rpc/request/8", Topic::RpcRequest("8")),
            ("v1/devices/me/rpc/response/8", Topic::Known),
            ("v1/gateway/telemetry", Topic::Known),
            ("v1/gateway/attributes/request", Topic::Known),
            ("v2/fw/request/1/chunk/2", Topic::Known),
            ("v2/t", Topic::Known),
            // A claim is an exact name.
            ("v1/devices/me/claim/", Topic::Unknown),
            ("v1/devices/me/claims", Topic::Unknown),
            ("/v1/devices/me/claim", Topic::Unknown),
            ("V1/devices/me/claim", Topic::Unknown),
            // Multi-byte names are no trouble.
            ("é/x", Topic::Unknown),
            ("v1/devices/mé/claim", Topic::Unknown),
            ("/", Topic::Unknown),
        ] {
            assert_eq!(Topic::parse(topic), meaning, "{topic}");
        }
    }

    #[test]
    fn filters_are_judged_by_grammar_then_by_what_is_offered() {
        for (filter, judgement) in [
            ("v1/devices/me/rpc/request/+", Filter::Granted),
            ("v1/devices/me/claim/state", Filter::Granted),
            ("v1/devices/me/attributes/response/17", Filter::Granted),
            ("some/topic", Filter::Unknown),
            ("v1/devices/me/#", Filter::Wildcard),
            ("#", Filter::Wildcard),
            ("$share/group/x", Filter::Shared),
            ("", Filter::Malformed),
            ("a#", Filter::Malformed),
            ("a/#/b", Filter::Malformed),
            ("a+/b", Filter::Malformed),
        ] {
            assert_eq!(Filter::judge(filter), judgement, "{filter}");
        }
    }

    #[test]
    fn filters_match_level_by_level() {
        for (filter, topic, yes) in [
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a/b/d", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("+", "a/b", false),
            ("+/b", "/b", true),
            ("#", "$SYS/x", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), yes, "{filter} {topic}");
        }
    }
}
