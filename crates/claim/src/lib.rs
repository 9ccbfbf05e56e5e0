//! The domain of claimd: who may announce a device, who may take it, and what is true afterwards.
//!
//! A device's announcement enters through [`Intake`] and nowhere else, whatever the protocol: the credential becomes an
//! [`AuthenticatedDevice`], the body a [`message::ClaimMessage`], policy is applied, and a [`PendingClaim`] is recorded
//! in the [`ports::ClaimCache`] before anyone answers. Ownership changes in [`Confirmation`] and nowhere else: a try is
//! charged, the evidence compared, and one conditional write in the [`ports::DeviceRegistry`] decides.
//!
//! Callers may rely on this: an `Ok` from [`Intake::submit`] means registered and visible to every confirm that starts
//! afterwards; a [`confirmation::ConfirmOutcome::Claimed`] is durable before it is returned.
//!
//! What is not here: sockets, storage, protocols, a runtime, a clock. `now` is an argument everywhere.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod applications;
pub mod audit;
pub mod confirmation;
pub mod device;
pub mod directory;
mod eui;
pub mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateways;
pub mod imports;
pub mod intake;
pub mod keys;
pub mod limits;
mod listing;
pub mod message;
pub mod origin;
pub mod owner;
pub mod permissions;
pub mod policy;
pub mod ports;
pub mod roles;
pub mod secret;
pub mod time;
pub mod watch;

pub use confirmation::Confirmation;
pub use device::{AuthenticatedDevice, Device, DeviceCredential, DeviceId, DeviceName, TenantId};
pub use eui::{Eui64, EuiFault};
pub use event::{ClaimState, StateChange, StateListener};
pub use intake::{AuthError, BatchReceipt, Intake, Receipt, SubmitError, SubmitOutcome};
pub use listing::{ListingId, ListingIdFault};
pub use message::BodyFormat;
pub use origin::{Origin, Transport};
pub use owner::{Actor, CustomerId, UserId};
pub use ports::{PendingClaim, PortFuture, Unavailable};
pub use secret::{ClaimSecret, Keyring, MasterKey, Secret, SecretDigest};
pub use time::Timestamp;
