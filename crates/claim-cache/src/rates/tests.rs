use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use testkit::at;

const MINUTE: Duration = Duration::from_secs(60);
const TEN: Budget = Budget { tries: 10, window: MINUTE };

fn rates() -> MemoryRates {
    MemoryRates::new(&Config::default())
}

#[test]
fn a_sender_may_spend_its_minute_at_once_and_then_gets_it_back_bit_by_bit() {
    let (rates, device) = (rates(), DeviceId::random());
    for _ in 0..10 {
        assert_eq!(rates.admit(device, 1, TEN, at(0)), Ok(()));
    }
    let TooOften { retry_after } = rates.admit(device, 1, TEN, at(0)).expect_err("the eleventh");
    assert_eq!(retry_after, Duration::from_secs(6));
    assert!(rates.admit(device, 1, TEN, at(5_999)).is_err());
    assert_eq!(rates.admit(device, 1, TEN, at(6_000)), Ok(()), "after the time that was told");
    assert!(rates.admit(device, 1, TEN, at(6_000)).is_err());
    for _ in 0..10 {
        assert_eq!(rates.admit(device, 1, TEN, at(120_000)), Ok(()), "full again after a minute's silence");
    }
    assert_eq!(rates.admit(DeviceId::random(), 1, TEN, at(0)), Ok(()), "others have their own");
}

#[test]
fn a_batch_is_admitted_whole_or_not_at_all() {
    let (rates, gateway) = (rates(), DeviceId::random());
    assert!(rates.admit(gateway, 11, TEN, at(0)).is_err(), "more than there ever is");
    assert_eq!(rates.admit(gateway, 9, TEN, at(0)), Ok(()));
    assert!(rates.admit(gateway, 2, TEN, at(0)).is_err());
    assert_eq!(rates.admit(gateway, 1, TEN, at(0)), Ok(()), "a refused batch has spent nothing");
}

#[test]
fn a_budget_of_nothing_admits_nothing() {
    let none = Budget { tries: 0, window: MINUTE };
    assert_eq!(rates().admit(DeviceId::random(), 1, none, at(0)), Err(TooOften { retry_after: MINUTE }));
}

#[test]
fn an_address_is_locked_by_its_last_allowed_failure_and_opens_by_itself() {
    let rates = rates();
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let budget = Budget { tries: 3, window: MINUTE };
    for _ in 0..2 {
        rates.refused_credential(address, budget, MINUTE, at(0));
        assert_eq!(rates.address_locked(address, at(0)), Ok(()));
    }
    rates.refused_credential(address, budget, MINUTE, at(1_000));
    assert_eq!(rates.address_locked(address, at(1_000)), Err(TooOften { retry_after: MINUTE }));
    assert!(rates.address_locked(address, at(60_999)).is_err());
    assert_eq!(rates.address_locked(address, at(61_000)), Ok(()));
    assert_eq!(rates.address_locked(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), at(1_000)), Ok(()));
}

#[test]
fn failures_of_an_earlier_window_are_forgiven() {
    let rates = rates();
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let budget = Budget { tries: 2, window: MINUTE };
    rates.refused_credential(address, budget, MINUTE, at(0));
    rates.refused_credential(address, budget, MINUTE, at(60_000));
    assert_eq!(rates.address_locked(address, at(60_000)), Ok(()));
    rates.refused_credential(address, budget, MINUTE, at(60_001));
    assert!(rates.address_locked(address, at(60_001)).is_err());
}

#[test]
fn one_subscribers_ipv6_addresses_count_together_and_mapped_ipv4_is_ipv4() {
    let rates = rates();
    let budget = Budget { tries: 1, window: MINUTE };
    let v6 = |net: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
    rates.refused_credential(v6(1, 1), budget, MINUTE, at(0));
    assert!(rates.address_locked(v6(1, 0xffff), at(0)).is_err(), "the same /64");
    assert_eq!(rates.address_locked(v6(2, 1), at(0)), Ok(()));
    let v4 = Ipv4Addr::new(192, 0, 2, 9);
    rates.refused_credential(IpAddr::V6(v4.to_ipv6_mapped()), budget, MINUTE, at(0));
    assert!(rates.address_locked(IpAddr::V4(v4), at(0)).is_err());
}

#[test]
fn what_is_remembered_is_bounded_and_lock_outs_are_kept_longest() {
    let config = Config { rate_senders: 64, rate_addresses: 128, ..Config::default() };
    let rates = MemoryRates::new(&config);
    for _ in 0..10_000 {
        let _ = rates.admit(DeviceId::random(), 1, TEN, at(0));
    }
    assert!(rates.senders.len() <= 64, "{}", rates.senders.len());
    let locked = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    rates.refused_credential(locked, Budget { tries: 1, window: MINUTE }, MINUTE, at(0));
    let patient = Budget { tries: 100, window: MINUTE };
    for n in 0..10_000u32 {
        rates.refused_credential(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), patient, MINUTE, at(0));
    }
    assert!(rates.addresses.len() <= 128, "{}", rates.addresses.len());
    assert!(rates.address_locked(locked, at(0)).is_err(), "a crowd of others does not open a locked address");
}
