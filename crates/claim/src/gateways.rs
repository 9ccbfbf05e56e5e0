//! Gateways as their maker sees them: which there are, and which devices each speaks for. One port, [`Gateways`].

use crate::device::{DeviceId, TenantId};
use crate::directory::{Answer, DeviceRecord, Page, PageRequest};

/// Looking at gateways; what is another tenant's does not exist.
pub trait Gateways: Send + Sync {
    /// Gateways by name.
    fn gateways(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>>;
    /// The devices a gateway is related to by name; of a device that is no gateway there are none.
    fn children(&self, tenant: TenantId, gateway: DeviceId, page: PageRequest) -> Answer<'_, Page<DeviceRecord>>;
}
