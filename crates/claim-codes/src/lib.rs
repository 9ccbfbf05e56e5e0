//! What devices that cannot speak are claimed with: claim codes and their windows, EUI-64s, QR payloads and images, the
//! files that makers import devices from and whom they are believed from.
//!
//! Pure: bytes in, values or faults out. No clock, no randomness, no file, no network, and no decision about a claim.
#![forbid(unsafe_code)]

pub mod check;
pub mod code;
pub mod eui;
pub mod export;
pub mod image;
pub mod import;
pub mod qr;
pub mod window;

pub use code::{ClaimCode, CodeFault, Style};
pub use eui::{Eui64, EuiFault};
pub use window::{Window, WindowFault};
