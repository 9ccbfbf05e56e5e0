//! What the server sends of its own accord: to whoever subscribed, within the client's own bounds.

use std::sync::atomic::Ordering;

use super::Session;
use crate::engine;
use crate::hub::Push;
use crate::topic;

impl Session<'_> {
    /// Sends what waits in the mailbox, as far as the client's Receive Maximum allows; its acks bring us back here.
    pub(super) fn push_mail(&mut self) {
        while !self.window_is_full() {
            let Some(push) = self.place.mailbox.take() else { return };
            match push {
                Push::State(state) => {
                    let text = state.to_json();
                    self.push(topic::STATE, text.as_bytes(), false);
                    self.push(topic::ATTRIBUTES, text.as_bytes(), false);
                }
                Push::Child(name, state) => {
                    let name = serde_json::Value::from(name.as_str());
                    let text = format!("{{\"device\":{name},\"data\":{}}}", state.to_json());
                    self.push(topic::GATEWAY_ATTRIBUTES, text.as_bytes(), false);
                }
                Push::Relayed(name, payload) => {
                    self.push(&name, &payload, false);
                }
            }
        }
    }

    fn window_is_full(&self) -> bool {
        let most = usize::from(self.hello.receive_maximum);
        self.extras.as_ref().is_some_and(|extras| extras.unacknowledged.len() >= most)
    }

    /// Sends to the client if it subscribed; whether it did. `own`: in answer to this very connection's publish.
    pub(super) fn push(&mut self, name: &str, payload: &[u8], own: bool) -> bool {
        let (version, most) = (self.hello.version, self.hello.packet_maximum);
        let full = self.window_is_full();
        let Some(extras) = &mut self.extras else { return false };
        let Some(qos) = extras.subscriptions.qos(name, own) else { return false };
        // Beyond the window QoS 1 goes out as QoS 0 rather than wait: it is an answer, or the second half of a pair.
        let id = (qos > 0 && !full).then(|| extras.next_id());
        if engine::put_publish(&mut self.out, version, name, payload, id, most) > most {
            self.shared.hub.stats.pushes_dropped.fetch_add(1, Ordering::Relaxed);
        } else if let Some(id) = id {
            extras.unacknowledged.push(id);
        }
        true
    }
}

impl super::Extras {
    /// A packet id that is not in use; never 0.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.unacknowledged.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
