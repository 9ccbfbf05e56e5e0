//! Rows to values. Ids, digests and names that do not read back are a damaged file, reported as such.

use claim::device::{PayloadFormat, ProfileId};
use claim::{CustomerId, Device, DeviceId, DeviceName, SecretDigest, TenantId, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

fn damaged(column: usize, what: &'static str) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, what.into())
}

pub(crate) fn bytes<const N: usize>(row: &Row<'_>, column: usize) -> Result<[u8; N]> {
    row.get_ref(column)?.as_blob()?.try_into().map_err(|_| damaged(column, "an id or digest of the wrong length"))
}

pub(crate) fn optional_bytes<const N: usize>(row: &Row<'_>, column: usize) -> Result<Option<[u8; N]>> {
    match row.get_ref(column)?.as_blob_or_null()? {
        None => Ok(None),
        Some(blob) => blob.try_into().map(Some).map_err(|_| damaged(column, "an id or digest of the wrong length")),
    }
}

pub(crate) fn name(row: &Row<'_>, column: usize) -> Result<DeviceName> {
    DeviceName::parse(row.get_ref(column)?.as_str()?).map_err(|fault| damaged(column, fault.text()))
}

pub(crate) fn instant(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

pub(crate) fn optional_instant(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

pub(crate) fn digest(row: &Row<'_>, column: usize) -> Result<Option<SecretDigest>> {
    Ok(optional_bytes(row, column)?.map(SecretDigest::from_bytes))
}

pub(crate) fn format_code(format: PayloadFormat) -> i64 {
    match format {
        PayloadFormat::Json => 0,
        PayloadFormat::Protobuf => 1,
        PayloadFormat::ProtobufThenJson => 2,
    }
}

pub(crate) fn format(row: &Row<'_>, column: usize) -> Result<PayloadFormat> {
    format_of(row.get(column)?).ok_or_else(|| damaged(column, "an unknown payload format"))
}

/// What [`format_code`] makes of it.
pub(crate) fn format_of(code: i64) -> Option<PayloadFormat> {
    match code {
        0 => Some(PayloadFormat::Json),
        1 => Some(PayloadFormat::Protobuf),
        2 => Some(PayloadFormat::ProtobufThenJson),
        _ => None,
    }
}

/// The columns [`device`] reads, from [`DEVICE_FROM`].
pub(crate) const DEVICE: &str = "d.id, d.tenant, d.name, d.gateway, p.mqtt_format, p.coap_format, d.owner, d.claimed_at, \
     d.claiming_allowed, d.claim_reset_at, d.generation, h.claiming_authorized, d.frozen, d.presence";
/// How many columns [`DEVICE`] has.
pub(crate) const DEVICE_COLUMNS: usize = 14;
pub(crate) const DEVICE_FROM: &str =
    "device d JOIN profile p ON p.id = d.profile JOIN application h ON h.id = d.home_application";

pub(crate) fn device(row: &Row<'_>) -> Result<Device> {
    Ok(Device {
        id: DeviceId::from_bytes(bytes(row, 0)?),
        tenant: TenantId::from_bytes(bytes(row, 1)?),
        name: name(row, 2)?,
        gateway: row.get(3)?,
        mqtt_format: format(row, 4)?,
        coap_format: format(row, 5)?,
        owner: optional_bytes(row, 6)?.map(CustomerId::from_bytes),
        claimed_at: optional_instant(row, 7)?,
        claiming_allowed: row.get::<_, Option<bool>>(8)?.unwrap_or(false),
        claim_reset_at: optional_instant(row, 9)?,
        generation: row.get(10)?,
        authorized: row.get(11)?,
        frozen: row.get(12)?,
        presence: row.get(13)?,
    })
}

pub(crate) fn profile_id(row: &Row<'_>, column: usize) -> Result<ProfileId> {
    Ok(ProfileId::from_bytes(bytes(row, column)?))
}
