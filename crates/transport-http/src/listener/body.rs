//! Request bodies with a total deadline, and the two kinds of response bodies.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::listener::LongBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::wire::Head;

/// A request body that ends with [`io::ErrorKind::TimedOut`] when the whole of it takes too long; hyper has no such
/// deadline, and a deadline a frame lets a client trickle for ever. Bodies that are expected to be long (imports of people
/// who have signed in) have just that.
pub struct Timely {
    body: Incoming,
    deadline: Duration,
    /// Made when the body is first waited for, which most bodies never are.
    sleep: Option<Pin<Box<Sleep>>>,
    head: Arc<Head>,
    long: Option<LongBody>,
}

impl Timely {
    pub(super) fn new(body: Incoming, deadline: Duration, head: Arc<Head>) -> Self {
        Self { body, deadline, sleep: None, head, long: None }
    }

    /// With a word for whoever reads it.
    pub(super) fn perhaps_long(mut self, long: LongBody) -> Self {
        self.long = Some(long);
        self
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if self.long.as_ref().is_some_and(LongBody::is_expected) {
                self.sleep = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Timely {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.head.leave_unread();
        }
    }
}

/// How reading a whole body ended.
pub(crate) enum Collected {
    /// All of it.
    Whole(Bytes),
    /// More than allowed; the rest is not read.
    TooLarge,
    /// Not there in time.
    TooSlow,
    /// The client broke off, or broke the encoding.
    Broken,
}

/// Reads a body of at most `most` bytes. One that came in one piece is not copied.
pub(crate) async fn collect(body: &mut Timely, most: usize) -> Collected {
    if body.is_end_stream() {
        return Collected::Whole(Bytes::new());
    }
    if body.size_hint().lower() > most as u64 {
        return Collected::TooLarge;
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_trailers)) => continue,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Collected::TooSlow,
            Err(_) => return Collected::Broken,
        };
        if first.len() + more.len() + data.len() > most {
            return Collected::TooLarge;
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
        // Known by its length; no need to ask for what cannot come.
        if body.is_end_stream() {
            break;
        }
    }
    if more.is_empty() {
        return Collected::Whole(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Collected::Whole(whole.freeze())
}

/// A response body: bytes of ours, or whatever the router answers. Ours costs no allocation of its own.
pub(crate) enum Answer {
    Bytes(Bytes),
    Router(axum::body::Body),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Answer::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Answer::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Answer::Router(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Bytes(bytes) => bytes.is_empty(),
            Answer::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Answer::Router(body) => body.size_hint(),
        }
    }
}
