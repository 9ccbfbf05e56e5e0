//! One connection: CONNECT, then packets until its end.
//!
//! The order of things that matters: nothing is read past CONNECT before the credential was taken; a claim's ack is made
//! when [`Intake::submit`](claim::Intake::submit) has returned; acks leave in the order of the publishes, whatever finished
//! first ([MQTT-4.6.0-2]).

mod publishes;
mod pushes;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use claim::{AuthenticatedDevice, DeviceCredential, Origin, Timestamp, Transport};
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt};
use listener::Seat;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::{CONNECT_BYTES, OVERHEAD_BYTES, TOPIC_ALIASES};
use crate::engine::{self, Fault, Hello, NoHello, Packet, Version, Welcome};
use crate::hub::{End, Place, wants};
use crate::listener::Shared;
use crate::reply::{self, Answer};
use crate::subscriptions::{Subscribed, Subscriptions};
use crate::topic;
use crate::wire::{self, Wire};

/// How long a peer may take to accept what we send it before it counts as gone.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// Why a session is over.
enum Over {
    /// The client said goodbye; with its reason code.
    Goodbye(u8),
    /// The connection is gone.
    Gone,
    /// It broke the protocol.
    Fault(Fault),
    /// A 3.1.1 client gets a no, which is a close.
    Refused,
    /// The server ends it.
    Ended(End),
    Silent,
}

impl From<Fault> for Over {
    fn from(fault: Fault) -> Self {
        Over::Fault(fault)
    }
}

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Over::Gone
    }
}

/// A publish at work, and what is needed to answer it.
type Working<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// A publish that was decided.
struct Answered {
    qos: u8,
    id: Option<u16>,
    answer: Answer,
}

/// How far a QoS 2 publish of a 3.1.1 client has come.
#[derive(Clone, Copy, PartialEq)]
enum Receiving {
    /// At work: no PUBREC yet, or the client would take it for stored.
    AtWork,
    /// PUBREC sent, PUBREL awaited.
    Stored,
}

/// What only some sessions need.
#[derive(Default)]
struct Extras {
    subscriptions: Subscriptions,
    aliases: HashMap<u16, Box<str>>,
    exactly_once: HashMap<u16, Receiving>,
    /// Packet ids of QoS 1 pushes that were not acknowledged.
    unacknowledged: Vec<u16>,
    last_id: u16,
    listens_as_gateway: bool,
}

/// A signed-in connection.
struct Session<'a> {
    shared: &'a Shared,
    device: &'a AuthenticatedDevice,
    origin: &'a Origin,
    hello: &'a Hello,
    place: &'a Place,
    extras: Option<Box<Extras>>,
    out: Vec<u8>,
    heard: Heard,
}

/// When something was last read: one look at the clocks for all that came together.
#[derive(Clone, Copy)]
struct Heard {
    at: Instant,
    time: Timestamp,
}

impl Heard {
    fn now(shared: &Shared) -> Self {
        Self { at: Instant::now(), time: shared.now() }
    }
}

pub(crate) async fn run<W: Wire>(mut wire: W, peer: std::net::IpAddr, seat: Seat, shared: Arc<Shared>) {
    let mut buffer = wire::borrow_buffer();
    let deadline = Instant::now() + shared.limits.connect_timeout;
    let hello = tokio::select! {
        hello = timeout_at(deadline, read_hello(&mut wire, &mut buffer)) => hello,
        () = seat.draining() => return,
    };
    let mut out = Vec::new();
    let hello = match hello {
        Ok(Ok(hello)) => hello,
        Ok(Err(Some((version, code)))) => {
            shared.hub.stats.malformed.fetch_add(1, Ordering::Relaxed);
            engine::put_refusal(&mut out, version, code, "the CONNECT packet is not what the specification asks for");
            return refuse(wire, &out).await;
        }
        Ok(Err(None)) => return,
        Err(_) => {
            shared.intake.meter().limit_reached("timeouts.connect");
            return;
        }
    };
    if let Err(cap) = seat.admission() {
        shared.intake.meter().limit_reached(cap.name());
        let code = if hello.version == Version::V5 { 0x97 } else { 3 };
        engine::put_refusal(&mut out, hello.version, code, "too many connections; connect again later");
        return refuse(wire, &out).await;
    }
    let origin = Origin {
        transport: Some(Transport::Mqtt),
        address: peer,
        address_proven: true,
        request_id: shared.next_request(),
    };
    let credential = DeviceCredential::Mqtt {
        client_id: &hello.client_id,
        user_name: hello.user_name.as_deref(),
        password: hello.password.as_deref(),
    };
    let heard = Heard::now(&shared);
    let device = match shared.intake.authenticate(credential, &origin, heard.time).await {
        Ok(device) => device,
        Err(error) => {
            let (code, reason) = reply::not_authenticated(error, &hello);
            engine::put_refusal(&mut out, hello.version, code, reason);
            return refuse(wire, &out).await;
        }
    };
    seat.authenticated();
    let assigned = hello.client_id.is_empty().then(|| format!("auto-{}", claim::DeviceId::random()));
    let place = shared.hub.enter(device.id(), assigned.as_deref().unwrap_or(&hello.client_id));
    let allowed = u16::try_from(shared.config.keep_alive_max.as_secs()).unwrap_or(u16::MAX).max(1);
    let keep_alive = if hello.keep_alive == 0 { allowed } else { hello.keep_alive.min(allowed) };
    let welcome = Welcome {
        receive_maximum: shared.config.receive_maximum.max(1),
        packet_maximum: shared.limits.payload_bytes + OVERHEAD_BYTES,
        topic_aliases: TOPIC_ALIASES,
        keep_alive: (keep_alive != hello.keep_alive).then_some(keep_alive),
        client_id: assigned.as_deref(),
        session_ended: hello.wants_session,
    };
    engine::put_welcome(&mut out, hello.version, &welcome);
    let session = Session {
        shared: &shared,
        device: &device,
        origin: &origin,
        hello: &hello,
        place: &place,
        extras: None,
        out,
        heard,
    };
    session.serve(wire, buffer, keep_alive).await;
}

/// The first packet, left out of the buffer; what follows it stays there unread.
async fn read_hello<W: Wire>(wire: &mut W, buffer: &mut Vec<u8>) -> Result<Hello, Option<(Version, u8)>> {
    loop {
        match engine::frame(buffer, CONNECT_BYTES) {
            Ok(Some((frame, used))) => {
                let hello = engine::hello(frame).map_err(|no| match no {
                    NoHello::Close => None,
                    NoHello::Answer(version, code) => Some((version, code)),
                })?;
                buffer.drain(..used);
                return Ok(hello);
            }
            // Whatever it is, it is no CONNECT: no need to wait for the rest.
            Ok(None) if buffer.first().is_some_and(|first| *first != 0x10) => return Err(None),
            Ok(None) => {}
            Err(_) => return Err(None),
        }
        wire.ready().await.map_err(|_| None)?;
        match wire.take(buffer) {
            Ok(0) => return Err(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(None),
        }
    }
}

async fn refuse<W: Wire>(mut wire: W, out: &[u8]) {
    let _ = tokio::time::timeout(SEND_PATIENCE, wire.send(out)).await;
    wire.finish().await;
}

impl Session<'_> {
    async fn serve<W: Wire>(mut self, mut wire: W, mut buffer: Vec<u8>, keep_alive: u16) {
        let patience = Duration::from_millis(u64::from(keep_alive) * 1500);
        let over = self.work(&mut wire, &mut buffer, patience).await;
        wire::give_back(buffer);
        let said_goodbye = matches!(over, Over::Goodbye(code) if code != 0x04);
        if !said_goodbye && let Some(will) = &self.hello.will {
            // As this device's publish; never as a claim.
            if self.relays() && topic::Topic::parse(&will.topic) == topic::Topic::Known {
                self.place.relay(&will.topic, &will.payload);
            }
        }
        let version = self.hello.version;
        let code = match over {
            Over::Goodbye(_) | Over::Gone | Over::Refused => None,
            Over::Fault(Fault(code)) => Some(code),
            Over::Ended(End::TakenOver) => Some(0x8E),
            Over::Ended(End::Revoked) => Some(0x98),
            Over::Ended(End::Draining) => Some(0x8B),
            Over::Ended(End::TooSlow) => {
                self.shared.intake.meter().limit_reached("mqtt.outbound_queue_bytes");
                Some(0x97)
            }
            Over::Silent => Some(0x8D),
        };
        if let Some(code) = code {
            engine::put_disconnect(&mut self.out, version, code);
        }
        let _ = tokio::time::timeout(SEND_PATIENCE, self.flush(&mut wire)).await;
        self.forget_subscriptions();
        wire.finish().await;
    }

    async fn work<W: Wire>(&mut self, wire: &mut W, buffer: &mut Vec<u8>, patience: Duration) -> Over {
        // Declared before what borrows from it; every future in it owns its payload.
        let mut working: FuturesOrdered<Working<'_>> = FuturesOrdered::new();
        let mut silent_at = std::pin::pin!(sleep_until(Instant::now() + patience));
        // What came right behind CONNECT has waited in the buffer.
        if let Err(over) = self.packets(buffer, &mut working).await {
            return over;
        }
        loop {
            if let Err(over) = self.flush(wire).await {
                return over;
            }
            if buffer.is_empty() && buffer.capacity() > 0 {
                wire::give_back(std::mem::take(buffer));
            }
            // A 3.1.1 client cannot know our window: beyond it nothing is read.
            let full = working.len() >= usize::from(self.shared.config.receive_maximum);
            // What others say comes first, then answers, then what is new: a client that never stops sending holds up neither.
            tokio::select! {
                biased;
                () = self.place.mailbox.rung() => {
                    if let Some(end) = self.place.mailbox.ended() {
                        self.finish_working(&mut working, end).await;
                        return Over::Ended(end);
                    }
                    self.push_mail();
                }
                Some(answered) = working.next() => {
                    if let Err(over) = self.answered(answered) {
                        return over;
                    }
                    // What the journal committed together leaves together: one write, not one for each. The loop polls the
                    // queue again with this task's waker before it sleeps.
                    while let Some(Some(answered)) = working.next().now_or_never() {
                        if let Err(over) = self.answered(answered) {
                            return over;
                        }
                    }
                }
                ready = wire.ready(), if !full => {
                    if ready.is_err() {
                        return Over::Gone;
                    }
                    if buffer.capacity() == 0 {
                        *buffer = wire::borrow_buffer();
                    }
                    match wire.take(buffer) {
                        Ok(0) => return Over::Gone,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(_) => return Over::Gone,
                    }
                    self.heard = Heard::now(self.shared);
                }
                () = &mut silent_at => {
                    if Instant::now() >= self.heard.at + patience {
                        return Over::Silent;
                    }
                    silent_at.as_mut().reset(self.heard.at + patience);
                    continue;
                }
            }
            if let Err(over) = self.packets(buffer, &mut working).await {
                // What was sent before the fault or the goodbye is still answered, if it is ready.
                return over;
            }
        }
    }

    /// Handles the whole packets in the buffer.
    async fn packets<'w>(&mut self, buffer: &mut Vec<u8>, working: &mut FuturesOrdered<Working<'w>>) -> Result<(), Over>
    where
        Self: 'w,
    {
        let most = self.shared.limits.payload_bytes + OVERHEAD_BYTES;
        let mut used = 0;
        let result = loop {
            if working.len() >= usize::from(self.shared.config.receive_maximum) && self.hello.version == Version::V311 {
                break Ok(());
            }
            let frame = match engine::frame(&buffer[used..], most) {
                Ok(Some((frame, length))) => {
                    used += length;
                    frame
                }
                Ok(None) => break Ok(()),
                Err(fault) => {
                    if fault == Fault::TOO_LARGE {
                        self.refuse_unread();
                    }
                    self.shared.hub.stats.malformed.fetch_add(1, Ordering::Relaxed);
                    break Err(fault.into());
                }
            };
            let packet = match engine::packet(self.hello.version, frame) {
                Ok(packet) => packet,
                Err(fault) => {
                    self.shared.hub.stats.malformed.fetch_add(1, Ordering::Relaxed);
                    break Err(fault.into());
                }
            };
            if let Err(over) = self.packet(packet, working).await {
                break Err(over);
            }
        };
        buffer.drain(..used);
        result
    }

    async fn packet<'w>(&mut self, packet: Packet<'_>, working: &mut FuturesOrdered<Working<'w>>) -> Result<(), Over>
    where
        Self: 'w,
    {
        match packet {
            Packet::Publish(publish) => self.publish(&publish, working).await,
            Packet::PubAck(id) => {
                if let Some(extras) = &mut self.extras {
                    extras.unacknowledged.retain(|sent| *sent != id);
                }
                self.push_mail();
                Ok(())
            }
            Packet::PubRel(id) => {
                if let Some(extras) = &mut self.extras {
                    extras.exactly_once.remove(&id);
                }
                // Also for an unknown id, or the client would repeat it for ever.
                engine::put_ack(&mut self.out, 0x70, id);
                Ok(())
            }
            Packet::Subscribe(id, wanted) => {
                // Boxed: rare, and an idle connection keeps no room for it.
                Box::pin(self.subscribe(id, wanted)).await
            }
            Packet::Unsubscribe(id, filters) => {
                self.unsubscribe(id, &filters);
                Ok(())
            }
            Packet::PingReq => {
                engine::put_pong(&mut self.out);
                Ok(())
            }
            Packet::Disconnect(code) => {
                // Nothing is read after it, but what came before is answered.
                while let Some(answered) = working.next().await {
                    self.answered(answered)?;
                }
                Err(Over::Goodbye(code))
            }
        }
    }

    /// On a drain, what is in flight is answered; a session that was taken over or revoked gets no more acks.
    async fn finish_working(&mut self, working: &mut FuturesOrdered<Working<'_>>, end: End) {
        if end == End::Draining {
            while let Some(answered) = working.next().await {
                if self.answered(answered).is_err() {
                    return;
                }
            }
        }
    }

    async fn flush<W: Wire>(&mut self, wire: &mut W) -> Result<(), Over> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = tokio::time::timeout(SEND_PATIENCE, wire.send(&self.out)).await;
        if self.out.capacity() > 512 {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over::Gone),
        }
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    fn relays(&self) -> bool {
        self.shared.config.other_topics == crate::OtherTopics::Relay
    }

    async fn subscribe(&mut self, id: u16, wanted: Vec<engine::Wanted>) -> Result<(), Over> {
        let (version, most) = (self.hello.version, self.shared.config.subscriptions);
        let before = self.extras().subscriptions.len();
        let mut codes = Vec::with_capacity(wanted.len());
        let mut states = Vec::new();
        for wanted in &wanted {
            let subscribed = self.extras().subscriptions.add(&wanted.filter, wanted.qos, wanted.no_local, most);
            codes.push(match subscribed {
                Subscribed::Granted { qos } => {
                    if wanted.filter == topic::STATE {
                        states.push(topic::STATE);
                    }
                    qos
                }
                Subscribed::Refused(code) => {
                    if code == 0x97 {
                        self.shared.intake.meter().limit_reached("mqtt.subscriptions");
                    }
                    if version == Version::V5 { code } else { 0x80 }
                }
                Subscribed::Malformed if version == Version::V5 => 0x8F,
                Subscribed::Malformed => return Err(Over::Refused),
            });
        }
        self.count_subscriptions(before);
        self.set_wants();
        engine::put_codes(&mut self.out, version, 0x90, id, &codes);
        if !states.is_empty()
            && let Ok(state) = self.shared.intake.claim_state(self.device, self.shared.now()).await
        {
            self.push(topic::STATE, state.to_json().as_bytes(), false);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, id: u16, filters: &[String]) {
        let before = self.extras().subscriptions.len();
        let removed = |filter: &String| if self.extras().subscriptions.remove(filter) { 0 } else { 0x11 };
        let codes: Vec<u8> = filters.iter().map(removed).collect();
        self.count_subscriptions(before);
        self.set_wants();
        engine::put_codes(&mut self.out, self.hello.version, 0xB0, id, &codes);
    }

    fn count_subscriptions(&mut self, before: usize) {
        let after = self.extras().subscriptions.len() as u64;
        let counter = &self.shared.hub.stats.subscriptions;
        counter.fetch_add(after.wrapping_sub(before as u64), Ordering::Relaxed);
    }

    fn set_wants(&mut self) {
        let (gateway, relays) = (self.device.is_gateway(), self.relays());
        let extras = self.extras();
        let wanted = |name| extras.subscriptions.qos(name, false).is_some();
        let mut flags = 0;
        if wanted(topic::STATE) || wanted(topic::ATTRIBUTES) {
            flags |= wants::STATE;
        }
        if relays && extras.subscriptions.len() > 0 {
            flags |= wants::RELAYED;
        }
        let listens = gateway && wanted(topic::GATEWAY_ATTRIBUTES);
        if listens {
            flags |= wants::CHILDREN;
        }
        let changed = std::mem::replace(&mut extras.listens_as_gateway, listens) != listens;
        if changed {
            self.place.hub().gateway_listens(listens);
        }
        self.place.mailbox.set_wants(flags);
    }

    fn forget_subscriptions(&mut self) {
        let Some(extras) = self.extras.take() else { return };
        self.shared.hub.stats.subscriptions.fetch_sub(extras.subscriptions.len() as u64, Ordering::Relaxed);
        if extras.listens_as_gateway {
            self.place.hub().gateway_listens(false);
        }
    }
}
