//! EUI-64s as JSON clients of The Things Stack may send them.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

pub use claim::{Eui64, EuiFault};

const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Hex, or base64 of the eight bytes.
pub fn parse_lenient(text: &str) -> Result<Eui64, EuiFault> {
    Eui64::parse(text).or_else(|_| {
        let bytes = ANY_PADDING.decode(text).map_err(|_| EuiFault)?;
        Ok(Eui64::from_bytes(bytes.as_slice().try_into().map_err(|_| EuiFault)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_clients_may_send_base64() {
        for good in ["0004A30B001C0530", "AASjCwAcBTA=", "AASjCwAcBTA"] {
            assert_eq!(parse_lenient(good).map(|eui| eui.to_string()), Ok("0004A30B001C0530".to_owned()), "{good}");
        }
        for bad in ["", "AASjCwAcBQ==", "0004A30B001C053", "0004A30B001C053G"] {
            assert_eq!(parse_lenient(bad), Err(EuiFault), "{bad}");
        }
    }
}
