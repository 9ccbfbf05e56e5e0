//! The counts and caps, without sockets.

use super::*;

#[test]
fn an_ipv6_subscriber_is_one_address() {
    let key = |text: &str| budget_key(text.parse().unwrap());
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
}

#[test]
fn a_seat_is_counted_once_and_given_back_once() {
    let seats = Seats::new(Limits::default(), Arc::default());
    let seat = seats.take("192.0.2.1".parse().unwrap());
    seat.authenticated();
    seat.authenticated();
    assert_eq!(seats.stats.unauthenticated.load(Ordering::Relaxed), 0);
    assert_eq!(seats.stats.open.load(Ordering::Relaxed), 1);
    drop(seat);
    assert_eq!(seats.stats.open.load(Ordering::Relaxed), 0);
    assert_eq!(seats.open(), 0);
    assert!(seats.lock().addresses.is_empty(), "an address without connections is forgotten");
}

#[test]
fn caps_hold_at_their_bound() {
    let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
    let seats = Seats::new(limits, Arc::default());
    let one: IpAddr = "192.0.2.1".parse().unwrap();
    let two: IpAddr = "192.0.2.2".parse().unwrap();
    let first = seats.take(one);
    let second = seats.take(one);
    assert_eq!((first.admission(), second.admission()), (Ok(()), Ok(())));
    let third = seats.take(one);
    assert_eq!(third.admission(), Err(Cap::ConnectionsPerAddress));
    drop(third);
    let other = seats.take(two);
    assert_eq!(other.admission(), Ok(()));
    assert_eq!(seats.take(two).admission(), Err(Cap::Connections));
    drop(first);
    assert_eq!(seats.take(one).admission(), Ok(()));
}

#[tokio::test]
async fn one_more_unauthenticated_closes_the_oldest_and_no_other() {
    let limits = Limits { unauthenticated: 3, unauthenticated_per_address: 2, ..Limits::default() };
    let seats = Seats::new(limits, Arc::default());
    let sit = |ip: &str| {
        let seat = seats.take(ip.parse().unwrap());
        let id = seat.id();
        let task = tokio::spawn(async move {
            let _seat = seat;
            std::future::pending::<()>().await;
        });
        seats.seated(id, task.abort_handle());
        task
    };
    let (a1, a2) = (sit("192.0.2.1"), sit("192.0.2.1"));
    let a3 = sit("192.0.2.1");
    assert!(a1.await.unwrap_err().is_cancelled(), "the oldest of the address went");
    let b1 = sit("192.0.2.2");
    let b2 = sit("192.0.2.2");
    assert!(a2.await.unwrap_err().is_cancelled(), "the oldest of all went");
    assert!(!a3.is_finished() && !b1.is_finished() && !b2.is_finished());
    assert_eq!(seats.stats.evicted.load(Ordering::Relaxed), 1);
    assert_eq!(seats.stats.evicted_per_address.load(Ordering::Relaxed), 1);
    assert_eq!(seats.stats.unauthenticated.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_connection_evicted_before_its_task_is_known_is_closed_then() {
    let limits = Limits { unauthenticated: 1, ..Limits::default() };
    let seats = Seats::new(limits, Arc::default());
    let first = seats.take("192.0.2.1".parse().unwrap());
    let _second = seats.take("192.0.2.1".parse().unwrap());
    let id = first.id();
    let task = tokio::spawn(async move {
        let _seat = first;
        std::future::pending::<()>().await;
    });
    seats.seated(id, task.abort_handle());
    assert!(task.await.unwrap_err().is_cancelled());
}

#[test]
fn behind_a_balancer_the_caps_of_an_address_are_the_clients() {
    let limits = Limits { connections: 6, connections_per_address: 2, ..Limits::default() };
    let seats = Seats::new(limits, Arc::default());
    let passed_on = |client: Option<&str>| {
        let mut seat = seats.take_for_another(100);
        seat.taken_by(client.map(|ip| ip.parse().unwrap()));
        seat
    };
    let open = [passed_on(Some("192.0.2.1")), passed_on(Some("192.0.2.1")), passed_on(Some("192.0.2.2"))];
    assert!(open.iter().all(|seat| seat.admission().is_ok()));
    let beyond = passed_on(Some("192.0.2.1"));
    assert_eq!(beyond.admission(), Err(Cap::ConnectionsPerAddress));
    drop(beyond);
    // The balancer's own count for no address, and among all.
    let own = [passed_on(None), passed_on(None), passed_on(None)];
    assert!(own.iter().all(|seat| seat.admission().is_ok()));
    assert_eq!(passed_on(None).admission(), Err(Cap::Connections));
    drop((open, own));
    assert_eq!((seats.open(), seats.stats.unauthenticated.load(Ordering::Relaxed)), (0, 0));
    let table = seats.lock();
    assert!(table.addresses.is_empty() && table.waiting.is_empty() && table.awaited.is_empty());
}

#[tokio::test]
async fn one_more_awaited_header_closes_the_oldest_awaited_and_no_client() {
    let seats = Seats::new(Limits::default(), Arc::default());
    let client = seats.take("192.0.2.1".parse().unwrap());
    let sit = || {
        let seat = seats.take_for_another(2);
        let id = seat.id();
        let task = tokio::spawn(async move {
            let _seat = seat;
            std::future::pending::<()>().await;
        });
        seats.seated(id, task.abort_handle());
        task
    };
    let (first, second) = (sit(), sit());
    assert!(!first.is_finished() && !second.is_finished());
    let third = sit();
    assert!(first.await.unwrap_err().is_cancelled(), "the oldest went");
    assert!(!second.is_finished() && !third.is_finished());
    assert_eq!(seats.stats.evicted_awaited.load(Ordering::Relaxed), 1);
    assert_eq!(seats.stats.unauthenticated.load(Ordering::Relaxed), 3);
    assert!(client.admission().is_ok());
    // One whose header has come is awaited no more.
    let mut known = seats.take_for_another(2);
    known.taken_by(Some("192.0.2.9".parse().unwrap()));
    assert_eq!(seats.lock().awaited.len(), 1);
}

#[test]
fn behind_a_balancer_a_client_evicts_its_own_oldest() {
    let limits = Limits { unauthenticated_per_address: 2, ..Limits::default() };
    let seats = Seats::new(limits, Arc::default());
    let passed_on = |client: &str| {
        let mut seat = seats.take_for_another(100);
        seat.taken_by(Some(client.parse().unwrap()));
        seat
    };
    let mine = [passed_on("192.0.2.1"), passed_on("192.0.2.1")];
    let others: Vec<_> = (0..9).map(|n| passed_on(&format!("192.0.2.{}", 10 + n))).collect();
    assert_eq!(seats.stats.evicted_per_address.load(Ordering::Relaxed), 0);
    let third = passed_on("192.0.2.1");
    assert_eq!(seats.stats.evicted_per_address.load(Ordering::Relaxed), 1);
    assert!(!seats.lock().waiting.contains_key(&mine[0].id()) && seats.lock().waiting.contains_key(&mine[1].id()));
    // One that was told to end before its header came takes nobody's place.
    let mut late = seats.take_for_another(1);
    let _newer = seats.take_for_another(1);
    late.taken_by(Some("192.0.2.2".parse().unwrap()));
    assert_eq!(seats.lock().addresses.len(), 1 + others.len());
    drop(third);
}
