//! A path as its meaning.

use crate::endpoint::wire::code;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// `/api/v1/{token}/claim`.
    Claim { token: &'a str },
    /// `/.well-known/core` (RFC 6690).
    Discovery,
}

/// One segment an option, as they came: no percent-decoding (RFC 7252 §6.5 is for URIs, not for options). `Err` is the code
/// to refuse with. The token is in no reply and no log.
pub(crate) fn parse<'a>(segments: &[&'a [u8]], too_long: bool) -> Result<Resource<'a>, u8> {
    let mut texts = [""; 6];
    for (text, segment) in texts.iter_mut().zip(segments) {
        *text = std::str::from_utf8(segment).map_err(|_| code::BAD_REQUEST)?;
        if matches!(*text, "." | "..") {
            return Err(code::BAD_REQUEST);
        }
    }
    if too_long {
        return Err(code::NOT_FOUND);
    }
    match &texts[..segments.len().min(texts.len())] {
        ["api", "v1", token, feature] if feature.eq_ignore_ascii_case("claim") && !token.is_empty() => {
            Ok(Resource::Claim { token })
        }
        [".well-known", "core"] => Ok(Resource::Discovery),
        _ => Err(code::NOT_FOUND),
    }
}

/// What `/.well-known/core` lists.
const LINKS: &str =
    r#"</api/v1/{token}/claim>;rt="claimd.claim";if="claimd.device";ct=50;obs;title="POST a claim, GET its state""#;

/// The list, filtered by `rt` or `href` as RFC 6690 §4.1 has it; other filters match nothing, no filter everything.
pub(crate) fn links(queries: &[&[u8]]) -> &'static str {
    let fits = |query: &&[u8]| {
        let text = std::str::from_utf8(query).unwrap_or_default();
        let (name, wanted) = text.split_once('=').unwrap_or((text, ""));
        let value = match name {
            "rt" => "claimd.claim",
            "if" => "claimd.device",
            "ct" => "50",
            "href" => "/api/v1/{token}/claim",
            _ => return false,
        };
        match wanted.strip_suffix('*') {
            Some(prefix) => value.starts_with(prefix),
            None => value == wanted,
        }
    };
    if queries.iter().all(fits) { LINKS } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Resource<'_>, u8> {
        let segments: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        parse(&segments[..segments.len().min(6)], segments.len() > 6)
    }

    #[test]
    fn the_feature_is_found_in_any_case_and_nothing_else() {
        assert_eq!(of("api/v1/TOKEN/claim"), Ok(Resource::Claim { token: "TOKEN" }));
        assert_eq!(of("api/v1/TOKEN/CLAIM"), Ok(Resource::Claim { token: "TOKEN" }));
        assert_eq!(of("api/v1/é %2F/claim"), Ok(Resource::Claim { token: "é %2F" }));
        assert_eq!(of(".well-known/core"), Ok(Resource::Discovery));
        for unknown in
            ["", "api", "api/v1", "api/v1/T", "api/v1//claim", "api/v1/T/telemetry", "api/v2/T/claim", "a/b/c/d/e/f/g"]
        {
            assert_eq!(of(unknown), Err(code::NOT_FOUND), "{unknown}");
        }
        for bad in ["api/v1/../claim", "./api"] {
            assert_eq!(of(bad), Err(code::BAD_REQUEST), "{bad}");
        }
        assert_eq!(parse(&[b"\xff"], false), Err(code::BAD_REQUEST));
    }

    #[test]
    fn discovery_is_filtered() {
        for all in [&[][..], &[&b"rt=claimd.claim"[..]], &[b"href=/api*"], &[b"rt=claimd*", b"if=claimd.device"]] {
            assert_eq!(links(all), LINKS);
        }
        for none in [&b"rt=other"[..], b"href=/x", b"title=*", b"\xff"] {
            assert_eq!(links(&[none]), "");
        }
    }
}
