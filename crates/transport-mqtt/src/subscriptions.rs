//! The filters one connection has subscribed to. Few, so a list is searched.

use crate::topic::{self, Filter};

/// A subscription.
struct Subscription {
    filter: Box<str>,
    qos: u8,
    no_local: bool,
}

/// What came of a SUBSCRIBE's filter.
pub(crate) enum Subscribed {
    /// With this QoS; `new` unless it took the place of one with the same filter.
    Granted { qos: u8 },
    /// A reason code of MQTT 5.
    Refused(u8),
    /// Breaks the grammar; MQTT 3.1.1 ends the connection for it.
    Malformed,
}

/// The filters of a connection.
#[derive(Default)]
pub(crate) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(crate) fn add(&mut self, filter: &str, qos: u8, no_local: bool, most: usize) -> Subscribed {
        match Filter::judge(filter) {
            Filter::Malformed => return Subscribed::Malformed,
            Filter::Shared => return Subscribed::Refused(0x9E),
            Filter::Wildcard => return Subscribed::Refused(0xA2),
            Filter::Unknown => return Subscribed::Refused(0x8F),
            Filter::Granted => {}
        }
        let qos = qos.min(1);
        if let Some(there) = self.0.iter_mut().find(|there| *there.filter == *filter) {
            (there.qos, there.no_local) = (qos, no_local);
            return Subscribed::Granted { qos };
        }
        if self.0.len() >= most {
            return Subscribed::Refused(0x97);
        }
        self.0.push(Subscription { filter: filter.into(), qos, no_local });
        Subscribed::Granted { qos }
    }

    /// Whether there was one.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|there| *there.filter != *filter);
        self.0.len() < before
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The highest QoS among the filters that match, so that overlapping ones deliver once; `own`: published by this very
    /// connection.
    pub(crate) fn qos(&self, name: &str, own: bool) -> Option<u8> {
        self.0
            .iter()
            .filter(|there| !(own && there.no_local) && topic::matches(&there.filter, name))
            .map(|there| there.qos)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_filters_deliver_once_at_the_highest_qos() {
        let mut filters = Subscriptions::default();
        let granted = |subscribed| matches!(subscribed, Subscribed::Granted { .. });
        assert!(granted(filters.add("v1/devices/me/rpc/response/+", 0, false, 8)));
        assert!(granted(filters.add("v1/devices/me/rpc/response/1", 2, false, 8)));
        assert_eq!(filters.qos("v1/devices/me/rpc/response/1", false), Some(1), "2 is granted as 1");
        assert_eq!(filters.qos("v1/devices/me/rpc/response/2", false), Some(0));
        assert_eq!(filters.qos("v1/devices/me/errors", false), None);
    }

    #[test]
    fn the_same_filter_again_replaces_and_takes_no_room() {
        let mut filters = Subscriptions::default();
        assert!(matches!(filters.add("v2/a", 0, false, 1), Subscribed::Granted { qos: 0 }));
        assert!(matches!(filters.add("v2/a", 1, false, 1), Subscribed::Granted { qos: 1 }));
        assert!(matches!(filters.add("v2/a/j", 1, false, 1), Subscribed::Refused(0x97)), "the bound holds");
        assert!(filters.remove("v2/a") && !filters.remove("v2/a"));
        assert_eq!(filters.len(), 0);
    }

    #[test]
    fn no_local_keeps_a_publish_from_its_own_connection() {
        let mut filters = Subscriptions::default();
        filters.add("v2/a", 1, true, 8);
        assert_eq!(filters.qos("v2/a", true), None);
        assert_eq!(filters.qos("v2/a", false), Some(1));
    }
}
