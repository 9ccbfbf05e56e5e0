//! In-memory fakes of the domain's ports: the plainest code that keeps each contract, with switches for faults.
//!
//! Each keeps its whole state under one mutex, so it is linearisable by construction and can serve as a model.

mod cache;
mod ledger;
mod meter;
mod rates;
mod registry;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use cache::FakeCache;
pub use ledger::FakeLedger;
pub use meter::{Metered, NoMeter, RecordingListener, RecordingMeter};
pub use rates::{FakeRates, OpenRates};
pub use registry::{AssignFault, FakeRegistry};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
