//! A peer that says its piece in a few portions and then ends.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::Wire;

pub(super) struct Scripted {
    portions: Vec<Vec<u8>>,
    said: Arc<Mutex<Vec<u8>>>,
    finished: bool,
}

impl Scripted {
    /// The peer, and where what is said to it is kept.
    pub(super) fn new(bytes: &[u8]) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        // Uneven portions, so that packets are cut; the last one comes first off the stack.
        let portion = (bytes.len() / 3).max(1) + bytes.len() % 5;
        let portions = bytes.chunks(portion).rev().map(<[u8]>::to_vec).collect();
        (Self { portions, said: Arc::clone(&said), finished: false }, said)
    }
}

impl Wire for Scripted {
    async fn ready(&mut self) -> io::Result<()> {
        if self.finished {
            pending::<()>().await;
        }
        Ok(())
    }

    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let Some(portion) = self.portions.pop() else { return Ok(0) };
        into.extend_from_slice(&portion);
        Ok(portion.len())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.finished, "something was said after the end");
        self.said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(&mut self) {
        self.finished = true;
    }
}
