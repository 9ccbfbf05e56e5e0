//! What carries the bytes: a TCP stream, or a WebSocket's binary messages. Both wait without holding a buffer.

use std::cell::RefCell;
use std::future::Future;
use std::io;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
use tokio::net::TcpStream;

/// A two-way stream of bytes.
pub(crate) trait Wire: Send {
    /// Waits until something can be taken. May be dropped and asked again.
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes what is there, without waiting. `Ok(0)`: the peer has ended; `WouldBlock`: nothing yet.
    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<usize>;

    /// Sends all of it.
    fn send(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Says that nothing more will come.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// Bytes asked for in one read.
const READ: usize = 16 * 1024;

pub(crate) struct Tcp(pub(crate) TcpStream);

impl Wire for Tcp {
    async fn ready(&mut self) -> io::Result<()> {
        self.0.readable().await
    }

    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        into.reserve(READ);
        // Not `try_read`: reading as `AsyncRead` forgets the readiness when the kernel gave less than was asked for, which
        // saves the second, empty read before the next wait.
        self.0.read_buf(into).now_or_never().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Nearly always the kernel takes it at once.
        match self.0.try_write(bytes) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(sent) => self.0.write_all(&bytes[sent..]).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.write_all(bytes).await,
            Err(error) => Err(error),
        }
    }

    async fn finish(&mut self) {
        let _ = self.0.shutdown().await;
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}
/// Buffers kept for the next connections that have something to read, a thread.
const SPARES: usize = 16;

/// An empty buffer; give it back with [`give_back`], or idle connections would each keep one.
pub(crate) fn borrow_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() > 4 * READ {
        return;
    }
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARES {
            spare.push(buffer);
        }
    });
}
