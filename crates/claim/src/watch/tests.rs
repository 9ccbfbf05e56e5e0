//! The feed by itself: who is shown what, how much waits, and what it costs when nobody looks.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::Wake;

use super::*;
use crate::event::AuditAction;
use crate::time::Timestamp;

fn happening(device: &str, by: By, at: i64) -> Happening {
    Happening {
        at: Timestamp::from_millis(at),
        deed: AuditAction::Submit,
        device: device.into(),
        by,
        transport: None,
        outcome: "accepted",
        reason: "new",
        why: "".into(),
        expires_at: None,
        request_id: 1,
    }
}

fn feed(viewers: usize, queue: usize) -> Arc<WatchFeed> {
    Arc::new(WatchFeed::new(WatchLimits { viewers, queue }))
}

fn tell(feed: &WatchFeed, tenant: TenantId, at: i64) {
    feed.tell(tenant, || happening("d", By::Device, at));
}

fn poll(viewing: &mut Viewing, waker: &Waker) -> Poll<Option<Sight>> {
    pin!(viewing.next()).poll(&mut Context::from_waker(waker))
}

/// What waits: instants of what happened, and how many were missed as negative numbers.
fn waiting(viewing: &mut Viewing) -> Vec<i64> {
    let mut all = Vec::new();
    while let Poll::Ready(Some(sight)) = poll(viewing, Waker::noop()) {
        all.push(match sight {
            Sight::Happened { what, .. } => what.at.as_millis(),
            Sight::Missed(missed) => -i64::try_from(missed).expect("few"),
        });
    }
    all
}

#[test]
fn nothing_is_put_together_while_nobody_of_the_tenant_watches() {
    let (feed, ours, theirs) = (feed(2, 10), TenantId::random(), TenantId::random());
    feed.tell(ours, || unreachable!("nobody watches"));
    let mut other = feed.watch(theirs, None).expect("room");
    feed.tell(ours, || unreachable!("only another tenant watches"));
    assert_eq!(waiting(&mut other), [0; 0]);
    drop(other);
    assert!(!feed.watched());
}

#[test]
fn a_slow_viewer_misses_and_is_told_how_many_and_where() {
    let (feed, tenant) = (feed(2, 3), TenantId::random());
    let mut slow = feed.watch(tenant, None).expect("room");
    let mut quick = feed.watch(tenant, None).expect("room");
    let mut seen = Vec::new();
    for at in 1..=5 {
        tell(&feed, tenant, at);
        seen.extend(waiting(&mut quick));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5], "one viewer's pace is not another's");
    // One is taken, which leaves room for no more than stands there with the note of what was missed.
    assert!(matches!(poll(&mut slow, Waker::noop()), Poll::Ready(Some(Sight::Happened { number: 1, .. }))));
    tell(&feed, tenant, 6);
    assert_eq!(waiting(&mut slow), [2, 3, -3]);
    tell(&feed, tenant, 7);
    let Poll::Ready(Some(Sight::Happened { number, .. })) = poll(&mut slow, Waker::noop()) else { panic!("a sight") };
    assert_eq!(number, 7, "what was missed is counted");
}

#[test]
fn the_queue_holds_its_bound_and_one_note() {
    for told in [2, 3, 4, 1000] {
        let (feed, tenant) = (feed(1, 3), TenantId::random());
        let mut slow = feed.watch(tenant, None).expect("room");
        (1..=told).for_each(|at| tell(&feed, tenant, at));
        let waiting = waiting(&mut slow);
        let expected: Vec<i64> = (1..=told.min(3)).chain((told > 3).then_some(3 - told)).collect();
        assert_eq!(waiting, expected);
    }
}

#[test]
fn viewers_end_at_their_bound_and_leave_room_when_they_go() {
    let (feed, tenant) = (feed(3, 3), TenantId::random());
    let mut watching: Vec<_> = (0..3).map(|_| feed.watch(tenant, None).expect("room")).collect();
    assert_eq!(feed.watch(TenantId::random(), None).err(), Some(WatchError::Full));
    assert_eq!(feed.viewers(), 3);
    watching.pop();
    assert!(feed.watch(tenant, None).is_ok());
}

#[test]
fn a_viewer_of_one_device_sees_it_and_what_it_says_as_a_gateway() {
    let (feed, tenant) = (feed(1, 10), TenantId::random());
    let name = |text| DeviceName::parse(text).expect("a name");
    let mut viewing = feed.watch(tenant, Some(name("gw"))).expect("room");
    feed.tell(tenant, || happening("gw", By::Device, 1));
    feed.tell(tenant, || happening("child", By::Gateway(name("gw")), 2));
    feed.tell(tenant, || happening("child", By::Gateway(name("other")), 3));
    feed.tell(tenant, || happening("gw-2", By::Device, 4));
    assert_eq!(waiting(&mut viewing), [1, 2]);
}

#[test]
fn who_waits_is_woken_and_the_end_of_the_node_ends_it() {
    struct Bell(AtomicBool);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (feed, tenant) = (feed(1, 10), TenantId::random());
    let mut viewing = feed.watch(tenant, None).expect("room");
    let bell = Arc::new(Bell(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&bell));
    assert!(poll(&mut viewing, &waker).is_pending());
    tell(&feed, tenant, 1);
    assert!(bell.0.swap(false, Ordering::Relaxed));
    assert!(poll(&mut viewing, &waker).is_ready());
    assert!(poll(&mut viewing, &waker).is_pending());
    tell(&feed, tenant, 2);
    feed.close();
    assert!(bell.0.load(Ordering::Relaxed));
    assert_eq!(waiting(&mut viewing), [2], "what waits is still shown");
    assert!(matches!(poll(&mut viewing, &waker), Poll::Ready(None)));
    drop(viewing);
    assert_eq!(feed.watch(tenant, None).err(), Some(WatchError::Closed));
}
