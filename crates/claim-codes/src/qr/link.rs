//! Links: our own, `PUBLIC_URL/c/DEVICE#CODE` with the code in the fragment so that it reaches no server, and the one on
//! The Things Indoor Gateway Pro.

use claim::{Eui64, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{EndDevice, WriteFault};

/// What RFC 3986 §2.3 leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn parse_claimd(text: &str, public_url: &str) -> Option<EndDevice> {
    // Scheme and host have no case, a path would have; public URLs are written in lower case.
    let (head, rest) = text.split_at_checked(public_url.len())?;
    if public_url.is_empty() || !head.eq_ignore_ascii_case(public_url) {
        return None;
    }
    let path = rest.strip_prefix("/c/")?;
    let (name, code) = path.split_once('#').map_or((path, ""), |(name, code)| (name, code));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let name = decoded(name).filter(|_| !name.is_empty() && !name.contains(['/', '?']))?;
    let code = decoded(code)?;
    Some(EndDevice { name: Some(name), code: (!code.is_empty()).then(|| Secret::new(code)), ..EndDevice::default() })
}

pub(super) fn write_claimd(device: &EndDevice, public_url: &str) -> Result<String, WriteFault> {
    let name = device.name.as_deref().ok_or(WriteFault::NoName)?;
    let code = device.code.as_ref().map_or("", |code| code.expose());
    let encoded = |text| utf8_percent_encode(text, ENCODED);
    Ok(format!("{public_url}/c/{}#{}", encoded(name), encoded(code)))
}

/// `https://ttig.pro/c/` gateway EUI `/` owner token.
pub(super) fn parse_ttigpro(text: &str) -> Option<(Eui64, Secret<String>)> {
    let (eui, token) = text.strip_prefix("https://ttig.pro/c/")?.split_once('/')?;
    let lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !lower(eui) || token.len() < 8 || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !lower(token) {
        return None;
    }
    Some((Eui64::parse(eui).ok()?, Secret::new(token.to_owned())))
}
