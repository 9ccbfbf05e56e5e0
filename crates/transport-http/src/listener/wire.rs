//! The socket under hyper, watched while a request's head is read.
//!
//! hyper bounds its buffer but answers 431 whichever part of the head is too long, and closes silently on a head that
//! stops half-way. Watching the bytes here lets us answer 414, 431 and 408 as they are meant, with less buffer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How far the head of the next request has come. Shared by the socket and the service of one connection, which run in
/// one task; atomics only because tasks move between threads.
#[derive(Default)]
pub(super) struct Head {
    /// Whether a request is being answered: what is read then is a body.
    answering: AtomicBool,
    /// Bytes of the head so far.
    bytes: AtomicUsize,
    /// Whether its first line is complete.
    line: AtomicBool,
    /// Whether the head was given up for its length.
    too_long: AtomicBool,
    /// Whether a request was answered before its body was read.
    unread: AtomicBool,
}

impl Head {
    /// A request's head is complete.
    pub(super) fn complete(&self) {
        self.answering.store(true, Relaxed);
        self.unread.store(false, Relaxed);
    }

    /// The request is answered; the next head may come.
    pub(super) fn answered(&self) {
        self.bytes.store(0, Relaxed);
        self.line.store(false, Relaxed);
        self.answering.store(false, Relaxed);
    }

    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(super) fn was_left_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Whether a part of a head has come.
    pub(super) fn begun(&self) -> bool {
        !self.answering.load(Relaxed) && self.bytes.load(Relaxed) > 0
    }

    /// Whether the head was given up for its length; and if so, whether its first line alone was too long.
    pub(super) fn too_long(&self) -> Option<bool> {
        self.too_long.load(Relaxed).then(|| !self.line.load(Relaxed))
    }

    fn saw(&self, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len(), Relaxed);
        if !self.line.load(Relaxed) && bytes.contains(&b'\n') {
            self.line.store(true, Relaxed);
        }
    }
}

/// See the module's head.
pub(super) struct Wire<S> {
    stream: S,
    head: std::sync::Arc<Head>,
    most: usize,
}

impl<S> Wire<S> {
    /// `most`: bytes of a head after which no more of it is read.
    pub(super) fn new(stream: S, head: std::sync::Arc<Head>, most: usize) -> Self {
        Self { stream, head, most }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.answering.load(Relaxed) {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        if self.head.bytes.load(Relaxed) >= self.most {
            self.head.too_long.store(true, Relaxed);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.head.saw(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
