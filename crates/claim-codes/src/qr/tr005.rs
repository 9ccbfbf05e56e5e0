//! LoRa Alliance TR005: `LW:D0:JoinEUI:DevEUI:Profile[:extension]*`.

use std::fmt::Write as _;

use claim::{Eui64, Secret};

use super::{Checksum, EndDevice, QrFault, WriteFault};

/// CRC-16/MODBUS: reflected 0xA001, start 0xFFFF, no final xor.
pub fn crc16_modbus(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

/// `None`: not this format.
pub(super) fn parse(text: &str) -> Result<Option<EndDevice>, QrFault> {
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(None);
    }
    let mut parts = text.split(':');
    let mut literal = |word: &str| parts.next().is_some_and(|part| part.eq_ignore_ascii_case(word));
    if !(literal("LW") && literal("D0")) {
        return Ok(None);
    }
    let (Some(join_eui), Some(dev_eui), Some(profile)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let (Ok(join_eui), Ok(dev_eui), Some(profile)) =
        (Eui64::parse(join_eui), Eui64::parse(dev_eui), profile_of(profile))
    else {
        return Ok(None);
    };
    let mut device = EndDevice { join_eui: Some(join_eui), dev_eui: Some(dev_eui), profile, ..EndDevice::default() };
    for extension in parts {
        let mut letters = extension.chars();
        let kind = letters.next().map(|letter| letter.to_ascii_uppercase());
        let value = Some(letters.as_str()).filter(|value| !value.is_empty());
        match kind {
            Some('O') => device.code = value.map(|value| Secret::new(value.to_owned())),
            Some('S') => device.serial = value.map(str::to_owned),
            Some('P') => device.proprietary = value.map(str::to_owned),
            Some('C') if value.is_some() => device.checksum = Checksum::Unverified,
            _ => {}
        }
    }
    check(text, &mut device)?;
    Ok(Some(device))
}

/// The checksum counts when it stands last and is four hex digits.
fn check(text: &str, device: &mut EndDevice) -> Result<(), QrFault> {
    let Some((covered, last)) = text.rsplit_once(':') else { return Ok(()) };
    let Some(digits) = last.strip_prefix(['C', 'c']) else { return Ok(()) };
    let Some(expected) = hex16(digits) else { return Ok(()) };
    // Five parts must be before it, else it is a part of the device.
    if covered.split(':').count() < 5 {
        return Ok(());
    }
    let fits =
        [covered.to_owned(), covered.to_ascii_uppercase()].iter().any(|text| crc16_modbus(text.as_bytes()) == expected);
    if !fits {
        return Err(QrFault::ChecksumMismatch);
    }
    device.checksum = Checksum::Verified;
    Ok(())
}

fn hex16(digits: &str) -> Option<u16> {
    (digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
}

/// `Some(None)` for `00000000`, which means unknown.
pub(super) fn profile_of(digits: &str) -> Option<Option<(u16, u16)>> {
    let (vendor, profile) = digits.split_at_checked(4)?;
    let numbers = (hex16(vendor)?, hex16(profile)?);
    Some((numbers != (0, 0)).then_some(numbers))
}

/// Always with a checksum. The code is written as it is stored; everything else that has a case in upper case.
pub(super) fn write(device: &EndDevice) -> Result<String, WriteFault> {
    let join_eui = device.join_eui.ok_or(WriteFault::NoJoinEui)?;
    let dev_eui = device.dev_eui.ok_or(WriteFault::NoDevEui)?;
    let (vendor, profile) = device.profile.unwrap_or((0, 0));
    let mut text = format!("LW:D0:{join_eui}:{dev_eui}:{vendor:04X}{profile:04X}");
    let extensions = [
        ('O', "claim code", device.code.as_ref().map(|code| code.expose().as_str())),
        ('S', "serial number", device.serial.as_deref()),
        ('P', "proprietary text", device.proprietary.as_deref()),
    ];
    for (letter, what, value) in extensions {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':') {
            return Err(WriteFault::Text(what));
        }
        text.push(':');
        text.push(letter);
        text.push_str(value);
    }
    let crc = crc16_modbus(text.as_bytes());
    let _ = write!(text, ":C{crc:04X}");
    Ok(text)
}
