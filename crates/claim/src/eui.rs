//! EUI-64s: DevEUI and JoinEUI of LoRaWAN devices, EUIs of gateways.

use std::fmt;

/// Eight bytes, shown as 16 upper-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Eui64([u8; 8]);

/// A text that is no EUI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EuiFault;

impl fmt::Display for EuiFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 hex digits expected")
    }
}

impl std::error::Error for EuiFault {}

impl Eui64 {
    /// The EUI with these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, most significant first.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// 16 hex digits of any letter case. An empty text is no EUI, not the EUI zero.
    pub fn parse(text: &str) -> Result<Self, EuiFault> {
        let digits: &[u8; 16] = text.as_bytes().try_into().map_err(|_| EuiFault)?;
        let mut bytes = [0; 8];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(EuiFault);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Eui64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Eui64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EUI: Eui64 = Eui64::from_bytes([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30]);

    #[test]
    fn an_eui_is_16_hex_digits_of_any_case_and_shown_in_upper_case() {
        assert_eq!(Eui64::parse("0004a30B001c0530"), Ok(EUI));
        assert_eq!(EUI.to_string(), "0004A30B001C0530");
        for bad in
            ["", "0004A30B001C053", "0004A30B001C05300", "0004A30B001C053G", "0004A30B-01C0530", "+004A30B001C0530"]
        {
            assert_eq!(Eui64::parse(bad), Err(EuiFault), "{bad}");
        }
    }
}
