//! Wrong passwords, counted by account and by address; in memory, of this node.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use claim::Timestamp;

use crate::Config;

/// Accounts and addresses remembered; with more than this misbehaving at once newcomers wait as well.
const REMEMBERED: usize = 100_000;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The name as typed, folded, whether there is such an account or not; by digest, so that its length costs nothing.
    Account([u8; 32]),
    Address(IpAddr),
}

pub(crate) struct Throttle {
    per_account: u32,
    per_address: u32,
    window: Duration,
    tries: Mutex<HashMap<Key, Vec<Timestamp>>>,
}

/// A try that was counted before the password was compared.
pub(crate) struct Reserved {
    keys: [Key; 2],
    at: Timestamp,
}

impl Throttle {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            per_account: config.wrong_passwords_per_account,
            per_address: config.wrong_passwords_per_address,
            window: config.wrong_passwords_window,
            tries: Mutex::default(),
        }
    }

    /// Counts a try at both, or at none and says when to come again. Parallel tries cannot pass the bound together.
    pub(crate) fn reserve(&self, name: &str, address: IpAddr, now: Timestamp) -> Result<Reserved, Duration> {
        let folded = blake3::hash(name.trim().to_lowercase().as_bytes());
        let keys = [Key::Account(*folded.as_bytes()), Key::Address(counted_as(address))];
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now.minus(self.window);
        if tries.len() + keys.len() > REMEMBERED {
            tries.retain(|_, times| times.last().is_some_and(|last| *last > start));
            if tries.len() + keys.len() > REMEMBERED {
                return Err(self.window);
            }
        }
        for (key, most) in keys.iter().zip([self.per_account, self.per_address]) {
            let Some(times) = tries.get_mut(key) else { continue };
            times.retain(|time| *time > start);
            if times.len() >= most as usize {
                let oldest = times.first().copied().unwrap_or(now);
                return Err(now.until(oldest.plus(self.window)));
            }
        }
        for key in &keys {
            tries.entry(key.clone()).or_default().push(now);
        }
        Ok(Reserved { keys, at: now })
    }

    /// The password was right, or nothing was compared: the try did not happen.
    pub(crate) fn refund(&self, reserved: &Reserved) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &reserved.keys {
            if let Some(times) = tries.get_mut(key) {
                if let Some(at) = times.iter().rposition(|time| *time == reserved.at) {
                    times.remove(at);
                }
                if times.is_empty() {
                    tries.remove(key);
                }
            }
        }
    }
}

/// One household has one /64: its addresses count as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u32) -> Timestamp {
        Timestamp::from_millis(1_000_000).plus(MINUTE * minutes)
    }

    #[test]
    fn an_account_has_ten_tries_in_any_spelling_and_the_window_slides() {
        let throttle = Throttle::new(&Config::default());
        for minute in 0..10 {
            assert!(throttle.reserve("alice@example.com", HOME, at(minute)).is_ok());
        }
        assert_eq!(throttle.reserve(" Alice@Example.com", HOME, at(10)).err(), Some(MINUTE * 5));
        assert!(throttle.reserve("alice@example.com", HOME, at(15)).is_ok(), "the first has left the window");
        assert!(throttle.reserve("alice@example.com", HOME, at(15)).is_err());
    }

    #[test]
    fn an_address_has_thirty_tries_whatever_the_names_and_a_network_is_one_address() {
        let throttle = Throttle::new(&Config::default());
        for n in 0..30 {
            let address: IpAddr = format!("2001:db8:1:2::{n}").parse().expect("an address");
            assert!(throttle.reserve(&format!("user{n}"), address, at(0)).is_ok());
        }
        assert!(throttle.reserve("user", "2001:db8:1:2:ffff::1".parse().expect("an address"), at(0)).is_err());
        assert!(throttle.reserve("user", "2001:db8:1:3::1".parse().expect("an address"), at(0)).is_ok());
    }

    #[test]
    fn a_right_password_costs_nothing() {
        let throttle = Throttle::new(&Config::default());
        for _ in 0..100 {
            let reserved = throttle.reserve("alice", HOME, at(0)).expect("a try");
            throttle.refund(&reserved);
        }
        assert!(throttle.tries.lock().expect("the lock").is_empty());
    }
}
