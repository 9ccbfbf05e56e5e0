//! A part of a segment, mapped into memory: what is stored there is the operating system's at once, without a system call,
//! and survives the end of this process however it comes.
//!
//! The one place of this crate with `unsafe`: mapping a file asks for the promise that nobody else changes it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// Windows begin at multiples of this, in bytes: no page is larger on the machines this runs on.
pub(crate) const ALIGNMENT: u64 = 64 * 1024;

/// See the module's head.
pub(crate) struct Window(MmapMut);

impl Window {
    /// Maps `length` bytes from `offset` on. They must be in the file, with room on the disk (`reserve`): a store to a page
    /// that cannot be had ends the process.
    pub(super) fn open(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        // SAFETY: the file lies in the journal's folder (mode 0700), which is locked against other processes of ours. This
        // process changes what is mapped through the one window only, and stores nothing any more when it cuts a segment
        // (`Mapped` has dropped the window by then, or is over). Whoever else of the same user cuts the file makes the next store fail with a signal, not with a wrong
        // value; what was stored is then found at the next start.
        unsafe { MmapOptions::new().offset(offset).len(length).map_mut(file) }.map(Self)
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    /// Stores bytes at a place in it. Panics when they do not fit.
    pub(crate) fn store(&mut self, place: usize, bytes: &[u8]) {
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
    }
}
