//! A PUBLISH of the client: its meaning, its work, its ack.

use std::task::Poll;

use claim::device::PayloadFormat;
use claim::{BodyFormat, ClaimState, Origin, Transport};
use futures_util::stream::FuturesOrdered;

use super::{Answered, Over, Receiving, Session, Working};
use crate::config::{TOPIC_ALIASES, TOPIC_BYTES};
use crate::engine::{self, Fault, Publish, Version};
use crate::reply::{self, Answer};
use crate::topic::{self, Topic};

/// What is done with a publish.
#[derive(Clone, Copy)]
enum Work {
    Claim(BodyFormat),
    Batch(BodyFormat),
    ConnectChild(BodyFormat),
    DisconnectChild(BodyFormat),
}

impl Session<'_> {
    pub(super) async fn publish<'w>(
        &mut self,
        publish: &Publish<'_>,
        working: &mut FuturesOrdered<Working<'w>>,
    ) -> Result<(), Over>
    where
        Self: 'w,
    {
        let name = self.name(publish)?;
        let name = name.as_deref().unwrap_or(publish.topic);
        if publish.payload.len() > self.shared.limits.payload_bytes {
            self.refuse_unread();
            return Err(Fault::TOO_LARGE.into());
        }
        if self.hello.version == Version::V5 {
            if publish.retain {
                return Err(Fault::RETAIN.into());
            }
            if publish.qos == 2 {
                return Err(Fault::QOS.into());
            }
            if publish.qos > 0 && working.len() >= usize::from(self.shared.config.receive_maximum) {
                self.shared.intake.meter().limit_reached("mqtt.receive_maximum");
                return Err(Fault::RECEIVE_MAXIMUM.into());
            }
        }
        if publish.qos == 2 && !self.first_time(publish)? {
            return Ok(());
        }
        let profile = |format| match format {
            PayloadFormat::Json => BodyFormat::Json,
            PayloadFormat::Protobuf => BodyFormat::Protobuf,
            PayloadFormat::ProtobufThenJson => BodyFormat::ProtobufThenJson,
        };
        let format = profile(self.device.mqtt_format());
        let work = match Topic::parse(name) {
            Topic::Claim(None) => Work::Claim(format),
            Topic::Claim(Some(encoding)) => Work::Claim(encoding.format()),
            Topic::GatewayClaim => Work::Batch(format),
            Topic::GatewayConnect => Work::ConnectChild(format),
            Topic::GatewayDisconnect => Work::DisconnectChild(format),
            other => {
                let answer = Box::pin(self.other(other, name, publish.payload)).await;
                return self.decided(publish, answer, working);
            }
        };
        self.start(publish, work, working)
    }

    /// A packet is too large to be read.
    pub(super) fn refuse_unread(&self) {
        let origin = Origin { request_id: self.shared.next_request(), ..*self.origin };
        self.shared.intake.refused_unread(self.device, &origin, self.heard.time);
    }

    /// Begins the work; if it is done at once and nothing waits before it, it is answered at once.
    fn start<'w>(
        &mut self,
        publish: &Publish<'_>,
        work: Work,
        working: &mut FuturesOrdered<Working<'w>>,
    ) -> Result<(), Over>
    where
        Self: 'w,
    {
        let (shared, device, heard) = (self.shared, self.device, self.heard);
        let origin = Origin { request_id: shared.next_request(), ..*self.origin };
        let (qos, id, body) = (publish.qos, publish.id, publish.payload.to_vec());
        let mut future: Working<'w> = Box::pin(async move {
            let (intake, now) = (&shared.intake, heard.time);
            let answer = match work {
                Work::Claim(format) => reply::submitted(&intake.submit(device, &body, format, &origin, now).await),
                Work::Batch(format) => reply::batch(&intake.submit_batch(device, &body, format, &origin, now).await),
                Work::ConnectChild(format) => reply::child(&intake.connect_child(device, &body, format, now).await),
                Work::DisconnectChild(format) => reply::child(&intake.disconnect_child(device, &body, format).await),
            };
            intake.meter().submit_seconds(Transport::Mqtt, heard.at.elapsed().as_secs_f64());
            Answered { qos, id, answer }
        });
        if working.is_empty() {
            // Memory answers without waiting: no need for a queue, nor for a waker.
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match future.as_mut().poll(&mut context) {
                Poll::Ready(answered) => return self.answered(answered),
                // It is polled again in the queue, with the waker of this task.
                Poll::Pending => {}
            }
        }
        working.push_back(future);
        Ok(())
    }

    /// A publish that needs no work still waits for its turn.
    fn decided<'w>(
        &mut self,
        publish: &Publish<'_>,
        answer: Answer,
        working: &mut FuturesOrdered<Working<'w>>,
    ) -> Result<(), Over>
    where
        Self: 'w,
    {
        let answered = Answered { qos: publish.qos, id: publish.id, answer };
        if working.is_empty() {
            return self.answered(answered);
        }
        working.push_back(Box::pin(std::future::ready(answered)));
        Ok(())
    }

    /// The topic by its alias (MQTT 5 §3.3.2.3.4); `None`: as sent.
    fn name(&mut self, publish: &Publish<'_>) -> Result<Option<Box<str>>, Over> {
        if !publish.topic.is_empty() && !topic::is_name(publish.topic) {
            return Err(Fault(0x90).into());
        }
        if publish.topic.len() > TOPIC_BYTES && self.hello.version == Version::V311 {
            return Err(Over::Refused);
        }
        match publish.alias {
            None if publish.topic.is_empty() => Err(Fault::PROTOCOL.into()),
            None => Ok(None),
            Some(alias) if alias == 0 || alias > TOPIC_ALIASES => Err(Fault::TOPIC_ALIAS.into()),
            Some(alias) if publish.topic.is_empty() => {
                let known = self.extras().aliases.get(&alias).cloned();
                known.map(Some).ok_or_else(|| Fault::TOPIC_ALIAS.into())
            }
            Some(alias) => {
                if publish.topic.len() <= TOPIC_BYTES {
                    self.extras().aliases.insert(alias, publish.topic.into());
                }
                Ok(None)
            }
        }
    }

    /// Whether this QoS 2 publish is not a repeat of one that is at work or stored.
    fn first_time(&mut self, publish: &Publish<'_>) -> Result<bool, Over> {
        let most = usize::from(self.shared.config.receive_maximum);
        let Some(id) = publish.id else { return Ok(true) };
        let ids = &mut self.extras().exactly_once;
        match ids.get(&id) {
            Some(Receiving::AtWork) => Ok(false),
            Some(Receiving::Stored) => {
                engine::put_ack(&mut self.out, 0x50, id);
                Ok(false)
            }
            None if ids.len() >= most => Err(Over::Refused),
            None => {
                ids.insert(id, Receiving::AtWork);
                Ok(true)
            }
        }
    }

    /// Says what came of a publish.
    pub(super) fn answered(&mut self, answered: Answered) -> Result<(), Over> {
        let Answered { qos, id, answer } = answered;
        if self.hello.version == Version::V311 {
            if !answer.ack_311 && qos > 0 {
                return Err(Over::Refused);
            }
            match (qos, id) {
                (1, Some(id)) => engine::put_ack(&mut self.out, 0x40, id),
                (2, Some(id)) => {
                    self.extras().exactly_once.insert(id, Receiving::Stored);
                    engine::put_ack(&mut self.out, 0x50, id);
                }
                _ => {}
            }
        } else if let Some(id) = id {
            if answer.code == 0 {
                engine::put_ack(&mut self.out, 0x40, id);
            } else {
                let notes = answer.notes.as_deref().filter(|_| self.hello.problem_information);
                engine::put_reasoned(&mut self.out, id, answer.code, notes, self.hello.packet_maximum);
            }
        }
        if let Some(response) = answer.response {
            self.push(topic::GATEWAY_RESPONSE, response.as_bytes(), true);
        }
        Ok(())
    }

    /// Topics that are no claims: answered where a stock device waits for an answer, else acknowledged and dropped.
    async fn other(&mut self, topic: Topic<'_>, name: &str, payload: &[u8]) -> Answer {
        let pushed = match topic {
            Topic::RpcRequest(id) if asks_for_limits(payload) => {
                let text = self.session_limits();
                self.push(&format!("v1/devices/me/rpc/response/{id}"), text.as_bytes(), true)
            }
            Topic::AttributesRequest(id) => {
                let state = self.shared.intake.claim_state(self.device, self.shared.now()).await;
                let state = state.unwrap_or(ClaimState::None);
                let text = format!("{{\"client\":{{}},\"shared\":{{\"claimState\":\"{}\"}}}}", state.name());
                self.push(&format!("v1/devices/me/attributes/response/{id}"), text.as_bytes(), true)
            }
            Topic::Unknown => return Answer::NO_TOPIC,
            _ => false,
        };
        if self.relays() {
            self.place.relay(name, payload);
            return Answer::DONE;
        }
        if pushed { Answer::DONE } else { Answer::NO_SUBSCRIBERS }
    }

    /// The answer to ThingsBoard's `getSessionLimits`: by it a stock client sizes and paces what it sends.
    fn session_limits(&self) -> String {
        let limits = &self.shared.limits;
        let rates = |messages: u32| {
            format!("{{\"messages\":\"{messages}:60\",\"telemetryMessages\":null,\"telemetryDataPoints\":null}}")
        };
        let mut text = format!(
            "{{\"maxPayloadSize\":{},\"maxInflightMessages\":{},\"rateLimits\":{}",
            limits.payload_bytes,
            self.shared.config.receive_maximum,
            rates(limits.submit_per_device)
        );
        if self.device.is_gateway() {
            text.push_str(&format!(",\"gatewayRateLimits\":{}", rates(limits.submit_per_gateway)));
        }
        text.push('}');
        text
    }
}

fn asks_for_limits(payload: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        method: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Request<'_>>(payload).is_ok_and(|request| request.method == "getSessionLimits")
}
