//! Rows to values. Names and digests that do not read back are a damaged database, reported as such.

use claim::device::{PayloadFormat, ProfileId};
use claim::{CustomerId, Device, DeviceId, DeviceName, SecretDigest, TenantId, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::db::Fault;

/// A column of the type it has.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

/// A `count(*)`.
pub(crate) fn count(row: &Row, column: usize) -> Result<u32, Fault> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(u32::MAX))
}

/// An id, for `from_bytes` of the kind it is.
pub(crate) fn id(row: &Row, column: usize) -> Result<[u8; 16], Fault> {
    get::<Uuid>(row, column).map(Uuid::into_bytes)
}

pub(crate) fn optional_id(row: &Row, column: usize) -> Result<Option<[u8; 16]>, Fault> {
    Ok(get::<Option<Uuid>>(row, column)?.map(Uuid::into_bytes))
}

pub(crate) fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], Fault> {
    optional_bytes(row, column)?.ok_or(Fault::Damaged("bytes are missing"))
}

pub(crate) fn optional_bytes<const N: usize>(row: &Row, column: usize) -> Result<Option<[u8; N]>, Fault> {
    match get::<Option<&[u8]>>(row, column)? {
        None => Ok(None),
        Some(bytes) => bytes.try_into().map(Some).map_err(|_| Fault::Damaged("bytes of the wrong length")),
    }
}

pub(crate) fn name(row: &Row, column: usize) -> Result<DeviceName, Fault> {
    DeviceName::parse(get(row, column)?).map_err(|fault| Fault::Damaged(fault.text()))
}

pub(crate) fn instant(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    get(row, column).map(Timestamp::from_millis)
}

pub(crate) fn optional_instant(row: &Row, column: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

pub(crate) fn digest(row: &Row, column: usize) -> Result<Option<SecretDigest>, Fault> {
    Ok(optional_bytes(row, column)?.map(SecretDigest::from_bytes))
}

pub(crate) fn format(row: &Row, column: usize) -> Result<PayloadFormat, Fault> {
    crate::rows::format_of(get(row, column)?).ok_or(Fault::Damaged("an unknown payload format"))
}

/// A device, from the columns of [`crate::rows::DEVICE`] out of [`crate::rows::DEVICE_FROM`].
pub(crate) fn device(row: &Row) -> Result<Device, Fault> {
    Ok(Device {
        id: DeviceId::from_bytes(id(row, 0)?),
        tenant: TenantId::from_bytes(id(row, 1)?),
        name: name(row, 2)?,
        gateway: get(row, 3)?,
        mqtt_format: format(row, 4)?,
        coap_format: format(row, 5)?,
        owner: optional_id(row, 6)?.map(CustomerId::from_bytes),
        claimed_at: optional_instant(row, 7)?,
        claiming_allowed: get::<Option<bool>>(row, 8)?.unwrap_or(false),
        claim_reset_at: optional_instant(row, 9)?,
        generation: get(row, 10)?,
        authorized: get(row, 11)?,
        frozen: get(row, 12)?,
        presence: get(row, 13)?,
    })
}

pub(crate) fn profile_id(row: &Row, column: usize) -> Result<ProfileId, Fault> {
    Ok(ProfileId::from_bytes(id(row, column)?))
}
