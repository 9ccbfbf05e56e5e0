//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::listener::{Connection, LongBody, PeerAddress, Seat, SignedIn};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::Service;

use super::Site;
use super::body::{Answer, Timely};
use super::wire::{Head, Wire};
use crate::reply;

/// A request line holds a method and a version beside its target.
const LINE_EXTRA: usize = 64;
/// How long, and for how many bytes, a client that was refused before it had sent all is still listened to: closing at
/// once would reset the connection and take the answer with it.
const LINGER: (Duration, u64) = (Duration::from_secs(2), 1024 * 1024);

/// What the requests of one connection share.
struct Visit {
    site: Arc<Site>,
    peer: IpAddr,
    seat: Seat,
    signed_in: AtomicBool,
    head: Arc<Head>,
}

pub(super) async fn run(connection: Connection, site: Arc<Site>) {
    let Connection { stream, peer, seat } = connection;
    if let Err(cap) = seat.admission() {
        site.limit_reached(cap.name());
        return;
    }
    let limits = site.limits;
    let head = Arc::new(Head::default());
    let most = limits.header_bytes + limits.uri_bytes + LINE_EXTRA;
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&head), most));
    let visit = Arc::new(Visit { site, peer: peer.ip().to_canonical(), seat, signed_in: AtomicBool::new(false), head });
    let mut connection = http1::Builder::new()
        // Without a timer hyper drops its time-outs silently.
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        // A client may shut its side down when it has sent its request, and still wants the answer.
        .half_close(true)
        // Beyond the socket's own bound, so that it is never met by a head.
        .max_buf_size(most.max(8 * 1024) + 8 * 1024)
        .serve_connection(io, {
            let visit = Arc::clone(&visit);
            service_fn(move |request| {
                visit.head.complete();
                // Boxed: an idle connection then keeps no room for a request.
                Box::pin(answer(Arc::clone(&visit), request))
            })
        });
    let ended = {
        let mut draining = pin!(Rarely::new(visit.seat.draining()));
        let mut told = false;
        poll_fn(|cx| {
            if !told && draining.as_mut().poll(cx).is_ready() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            connection.poll_without_shutdown(cx)
        })
        .await
    };
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    let last_word = ended.err().and_then(|error| last_word(&error, &visit));
    end(&mut stream, last_word, visit.head.was_left_unread()).await;
}

/// What is still to be said to a client whose request never came to be one.
fn last_word(error: &hyper::Error, visit: &Visit) -> Option<&'static str> {
    let head = &visit.head;
    match head.too_long() {
        Some(true) => {
            visit.site.limit_reached("http_uri_bytes");
            Some("HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        }
        Some(false) => {
            visit.site.limit_reached("http_header_bytes");
            Some("HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        }
        // An idle connection ends without a word (RFC 9112 §9.3 leaves it to us); a head begun gets one.
        None if error.is_timeout() && head.begun() => {
            Some("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        }
        None => None,
    }
}

async fn end(stream: &mut TcpStream, last_word: Option<&str>, unread: bool) {
    if let Some(text) = last_word {
        let _ = tokio::time::timeout(LINGER.0, stream.write_all(text.as_bytes())).await;
    }
    let _ = stream.shutdown().await;
    if last_word.is_some() || unread {
        let mut rest = stream.take(LINGER.1);
        let _ = tokio::time::timeout(LINGER.0, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

async fn answer(visit: Arc<Visit>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let response = respond(&visit, request).await;
    visit.head.answered();
    Ok(response)
}

async fn respond(visit: &Arc<Visit>, request: Request<Incoming>) -> Response<Answer> {
    let limits = &visit.site.limits;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes {
        visit.site.limit_reached("http_uri_bytes");
        return reply::refusal(StatusCode::URI_TOO_LONG, "too_long", "the request target is too long; shorten it");
    }
    // As they were sent: name, colon, space, value, line end.
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > limits.header_bytes {
        visit.site.limit_reached("http_header_bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return reply::refusal(status, "too_large", "the request's headers are too large; send fewer or shorter ones");
    }
    let request = request.map(|body| Timely::new(body, limits.request_timeout, Arc::clone(&visit.head)));
    if let Some(devices) = &visit.site.devices
        && let Some(path) = request.uri().path().strip_prefix("/api/v1/")
    {
        let path = path.len();
        let (response, signed_in) = devices.answer(request, path, visit.peer, &visit.seat).await;
        visit.note(signed_in);
        return response;
    }
    // Boxed: the router's future is large, and a connection's memory is that of the larger branch.
    Box::pin(routed(visit, request)).await
}

async fn routed(visit: &Visit, mut request: Request<Timely>) -> Response<Answer> {
    let long = LongBody::default();
    request.extensions_mut().insert(PeerAddress(visit.peer));
    request.extensions_mut().insert(long.clone());
    let request = request.map(|body| body.perhaps_long(long));
    let mut router = visit.site.router.clone();
    let response = match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    visit.note(response.extensions().get::<SignedIn>().is_some());
    response.map(Answer::Router)
}

impl Visit {
    fn note(&self, signed_in: bool) {
        if signed_in && !self.signed_in.swap(true, Ordering::Relaxed) {
            self.seat.authenticated();
        }
    }
}

/// A future that is polled only when it has asked for it. The drain signal of a listener is shared by all its
/// connections under one lock; polling it whenever a connection has bytes would have them queue for it.
struct Rarely<F> {
    inner: Pin<Box<F>>,
    bell: Option<Arc<Bell>>,
}

struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<F: Future> Rarely<F> {
    fn new(inner: F) -> Self {
        Self { inner: Box::pin(inner), bell: None }
    }
}

impl<F: Future> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let bell = match &self.bell {
            // A connection is polled by its own task alone, whose waker stays the same; if it ever does not, ask anew.
            Some(bell) if bell.task.will_wake(cx.waker()) => {
                if !bell.rung.swap(false, Ordering::Acquire) {
                    return Poll::Pending;
                }
                Arc::clone(bell)
            }
            _ => {
                let bell = Arc::new(Bell { rung: AtomicBool::new(false), task: cx.waker().clone() });
                self.bell = Some(Arc::clone(&bell));
                bell
            }
        };
        let waker = Waker::from(bell);
        self.inner.as_mut().poll(&mut Context::from_waker(&waker))
    }
}
