//! Two drafts of TR005 that are on labels in the field. Read only.

use claim::{Eui64, Secret};

use super::EndDevice;
use super::tr005::profile_of;

/// `URN:LW:DP:JoinEUI:DevEUI:Profile[:%V…%S…%P…]`; a percent sign may itself be percent-encoded.
pub(super) fn parse_draft2(text: &str) -> Option<EndDevice> {
    let rest = strip_prefix(text, "URN:LW:DP:")?;
    let mut parts = rest.splitn(4, ':');
    let mut device = identified(parts.next()?, parts.next()?, parts.next()?)?;
    let Some(extensions) = parts.next() else { return Some(device) };
    let extensions = extensions.replace("%25", "%");
    let allowed = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase() || b"$*+-./".contains(&byte);
    extend(&mut device, &extensions, '%', allowed)?;
    Some(device)
}

/// `URN:DEV:LW:JoinEUI_DevEUI_Profile[_V…][_S…][_P…]`.
pub(super) fn parse_draft3(text: &str) -> Option<EndDevice> {
    let rest = strip_prefix(text, "URN:DEV:LW:")?;
    let mut parts = rest.splitn(3, '_');
    let (join_eui, dev_eui, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (profile, extensions) = rest.split_at_checked(8)?;
    let mut device = identified(join_eui, dev_eui, profile)?;
    extend(&mut device, extensions, '_', |byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())?;
    Some(device)
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn identified(join_eui: &str, dev_eui: &str, profile: &str) -> Option<EndDevice> {
    Some(EndDevice {
        join_eui: Some(Eui64::parse(join_eui).ok()?),
        dev_eui: Some(Eui64::parse(dev_eui).ok()?),
        profile: profile_of(profile)?,
        ..EndDevice::default()
    })
}

/// Each extension begins with the separator and a letter: V for the code, S, P; others are ignored.
fn extend(device: &mut EndDevice, extensions: &str, separator: char, allowed: fn(u8) -> bool) -> Option<()> {
    if extensions.is_empty() {
        return Some(());
    }
    for extension in extensions.strip_prefix(separator)?.split(separator) {
        if !extension.bytes().all(allowed) {
            return None;
        }
        let mut letters = extension.chars();
        let (kind, value) = (letters.next(), letters.as_str());
        let value = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match kind {
            Some('V') => device.code = value().map(Secret::new),
            Some('S') => device.serial = value(),
            Some('P') => device.proprietary = value(),
            _ => {}
        }
    }
    Some(())
}
