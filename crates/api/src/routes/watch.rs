//! `GET /api/claimd/v1/watch`: what happens to a tenant's claims, live, as server-sent events for its administrators.
//!
//! A customer's user is refused: the reasons are the maker's, and refused names may be other customers' devices.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use claim::owner::Authority;
use claim::watch::{By, Happening, Sight, Viewing, WatchError};
use claim::{DeviceName, TenantId};
use claim_codes::window::show_instant;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Api;
use crate::docs::{Op, Table};
use crate::extract::{Asked, Caller, identity};
use crate::reply::Fault;

/// A quiet stream says so often that it lives, and the viewer's credential is looked at again. A client that went away
/// is noticed by the second of them at the latest.
const PULSE: Duration = Duration::from_secs(15);
/// When a place among the viewers is worth another try.
const FULL_RETRY: Duration = Duration::from_secs(10);
/// How long a client may take nothing before its view ends, and its place is another's.
const STALL: Duration = Duration::from_secs(60);
/// What waits goes out in pieces of about so many bytes.
const PIECE: usize = 16 * 1024;

pub(super) fn route(table: Table) -> Table {
    let about = "Each submission, confirm and unclaim of the tenant with its outcome, live (makers). Event `missed` says how \
        many a slow viewer has lost";
    table.get(
        "/api/claimd/v1/watch",
        Op::new("claimd", about).events::<HappeningJson<'_>>().query(
            "device",
            false,
            "only of this device, by name; of a gateway also what it says for others",
        ),
        get(watch),
    )
}

/// One thing that happened.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HappeningJson<'a> {
    /// RFC 3339.
    at: String,
    /// `submit`, `confirm` or `unclaim`.
    what: &'static str,
    /// The device's name; as it was asked for where there is none.
    device: &'a str,
    /// `device`, `gateway`, `owner` or `admin`.
    by: &'static str,
    /// The gateway that spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'a str>,
    /// The account that acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Uuid>,
    /// `mqtt`, `coap` or `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    /// The outcome's name.
    outcome: &'static str,
    /// The exact reason's name.
    reason: &'static str,
    /// The reason in words, and where in the body.
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
    /// When the claim ends that was registered, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// The request's id, as the log has it.
    request_id: u64,
}

impl<'a> From<&'a Happening> for HappeningJson<'a> {
    fn from(what: &'a Happening) -> Self {
        let (by, gateway, account) = match &what.by {
            By::Device => ("device", None, None),
            By::Gateway(gateway) => ("gateway", Some(gateway.as_str()), None),
            By::Owner(account) => ("owner", None, Some(account.uuid())),
            By::Admin(account) => ("admin", None, Some(account.uuid())),
        };
        Self {
            at: show_instant(what.at),
            what: what.deed.name(),
            device: &what.device,
            by,
            gateway,
            account,
            transport: what.transport.map(claim::Transport::name),
            outcome: what.outcome,
            reason: what.reason,
            why: &what.why,
            expires_at: what.expires_at.map(show_instant),
            request_id: what.request_id,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Watched {
    device: Option<String>,
}

async fn watch(
    State(api): State<Api>,
    caller: Caller,
    Asked(watched): Asked<Watched>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let tenant = caller.maker()?.tenant;
    let device = watched.device.map(|name| DeviceName::parse(&name)).transpose();
    let device = device.map_err(|fault| Fault::bad_request(fault.text()))?;
    let viewing = api.inner.parts.watch.watch(tenant, device).map_err(|error| {
        let text = match error {
            WatchError::Full => {
                api.limit_reached("owner_api.live_viewers");
                "as many watch as this node lets; close a live view, or try again later"
            }
            WatchError::Closed => "the server is stopping; try again in a moment",
        };
        let mut fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, 2, text);
        fault.retry_after = Some(FULL_RETRY);
        fault
    })?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(show(api, tenant, headers, viewing, sender));
    // A proxy that collects an answer before it passes it on would show nothing.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([(CONTENT_TYPE, "text/event-stream"), unbuffered], Body::new(Pieces(receiver))).into_response())
}

/// Writes the stream until the client goes, its credential ends, or the node stops.
async fn show(api: Api, tenant: TenantId, headers: HeaderMap, mut viewing: Viewing, pieces: mpsc::Sender<Bytes>) {
    let mut pulse = tokio::time::interval_at(tokio::time::Instant::now() + PULSE, PULSE);
    // The head goes out with it, so that a client knows from when on it sees everything.
    let mut piece = ": watching\n\n".to_owned();
    loop {
        if !taken(&pieces, std::mem::take(&mut piece), STALL).await {
            return;
        }
        tokio::select! {
            () = pieces.closed() => return,
            _ = pulse.tick() => {
                if !still_good(&api, tenant, &headers).await {
                    return;
                }
                piece.push_str(": nothing new\n\n");
            }
            sight = viewing.next() => {
                let Some(sight) = sight else { return };
                write(&mut piece, &sight);
                while piece.len() < PIECE && let Some(sight) = viewing.try_next() {
                    write(&mut piece, &sight);
                }
            }
        }
    }
}

/// Whether the client took a piece in time.
async fn taken(pieces: &mpsc::Sender<Bytes>, piece: String, patience: Duration) -> bool {
    matches!(tokio::time::timeout(patience, pieces.send(Bytes::from(piece))).await, Ok(Ok(())))
}

fn write(piece: &mut String, sight: &Sight) {
    // Writing to a text cannot fail.
    let _ = match sight {
        Sight::Happened { number, what } => {
            let data = serde_json::to_string(&HappeningJson::from(&**what)).unwrap_or_default();
            write!(piece, "id: {number}\nevent: {}\ndata: {data}\n\n", what.deed.name())
        }
        Sight::Missed(missed) => write!(piece, "event: missed\ndata: {{\"missed\":{missed}}}\n\n"),
    };
}

/// Whether whoever opened the stream may still see it. A store that does not answer ends nothing.
async fn still_good(api: &Api, tenant: TenantId, headers: &HeaderMap) -> bool {
    match identity(api, headers).await {
        Some(Ok(caller)) => caller.0.tenant == tenant && caller.0.authority == Authority::TenantAdmin,
        Some(Err(fault)) => fault.status == StatusCode::SERVICE_UNAVAILABLE,
        None => false,
    }
}

/// The stream as a body. Ends when its writer does.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_its_view() {
        let (pieces, mut client) = mpsc::channel(1);
        assert!(taken(&pieces, "a".to_owned(), Duration::from_millis(10)).await);
        assert!(!taken(&pieces, "b".to_owned(), Duration::from_millis(10)).await);
        assert_eq!(client.recv().await.as_deref(), Some(&b"a"[..]));
        assert!(taken(&pieces, "c".to_owned(), STALL).await);
        drop(client);
        assert!(!taken(&pieces, "d".to_owned(), STALL).await);
    }
}
