//! What happens when the periods of claims are over, and how they are kept small until then.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_is_told_once_of_each_claim_that_ended_and_of_no_other() {
    let server = RedisServer::start();
    let nodes = [node(&server).await, node(&server).await];
    // At a full second: so the instants below are those of periods.
    let now = Timestamp::from_millis(now().as_millis() / 1000 * 1000);
    let ends = |seconds| now.plus(Duration::from_secs(seconds));
    let mut ended: Vec<DeviceId> = Vec::new();
    let mut claims = Vec::new();
    // More than are read at once, many with one and the same end.
    for n in 0..3500 {
        let claim = PendingClaim { expires_at: ends(if n < 3000 { 10 } else { 11 }), ..claim_at(now) };
        ended.push(claim.device);
        claims.push(claim);
    }
    let used = PendingClaim { expires_at: ends(10), ..claim_at(now) };
    let lengthened = PendingClaim { expires_at: ends(10), ..claim_at(now) };
    claims.extend([used, lengthened, PendingClaim { expires_at: ends(3600), ..lengthened }]);
    assert!(nodes[0].record_batch(claims, now).await.iter().all(Result::is_ok));
    assert_eq!(nodes[1].withdraw(used.device, now).await, Ok(true));
    for node in &nodes {
        // A page is read when the store knows of all that the node did.
        assert!(node.pending(used.tenant, None, 1, now).await.is_ok());
    }
    ended.sort_unstable();
    for (n, node) in nodes.iter().enumerate() {
        let mut told = Vec::new();
        for at in [1, 14, 15, 15, 16, 17, 60, 61] {
            let count = told.len();
            let said = node.sweep(ends(at), &mut |device| told.push(device)).await.expect("an answer");
            assert_eq!(said, told.len() - count);
            // The second node finds the work of the first one's last sweeps already done.
            if n == 0 {
                assert_eq!(
                    told.len(),
                    if at < 15 {
                        0
                    } else if at < 16 {
                        3000
                    } else {
                        3500
                    },
                    "after {at} s"
                );
            } else if at >= 16 {
                break;
            }
        }
        if n == 0 {
            told.sort_unstable();
            assert_eq!(told, ended);
            until("the one that was lengthened", async || (pending(&server) == 1).then_some(())).await;
            assert_eq!(node.stats().expired_total, 3500);
        }
    }
}

/// Whatever is counted too much or too little goes with the period it is counted in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_that_died_left_miscounted_ends_with_its_period() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let now = now();
    let tenant = "t".repeat(16);
    let second = now.as_millis() / 1000;
    for (member, by) in
        [(format!("{}", second + 3), "5"), (format!("{}", second + 4), "-2"), (format!("r{second}"), "9")]
    {
        server.say(&["HINCRBY", &format!("{{claimd}}n{member}"), &tenant, by]);
        server.say(&["ZADD", "{claimd}s", member.trim_start_matches('r'), &member]);
        for field in ["all", tenant.as_str()] {
            server.say(&["HINCRBY", "{claimd}u", field, by]);
        }
    }
    server.say(&["HINCRBY", "{claimd}u", "held", "9"]);
    assert_eq!(pending(&server), 3);
    for (after, left) in [(30, 3), (33, -2), (34, 0)] {
        cache.sweep(now.plus(Duration::from_secs(after)), &mut |_| ()).await.expect("an answer");
        assert_eq!(pending(&server), left, "after {after} s");
    }
    assert_eq!(server.say(&["HGETALL", "{claimd}u"]), "*4\r\n$3\r\nall\r\n$1\r\n0\r\n$4\r\nheld\r\n$1\r\n0\r\n");
    assert_eq!(server.say(&["EXISTS", "{claimd}s"]), ":0\r\n");
}

/// A device that repeats its claim with changing ends leaves entries behind, which are cleared away; what counts stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_holds_at_most_twice_its_claims_and_a_thousand() {
    let server = RedisServer::start();
    let cache = node(&server).await;
    let now = now();
    let ends = |seconds| now.plus(Duration::from_secs(seconds));
    let staying: Vec<PendingClaim> =
        (0..300).map(|_| PendingClaim { expires_at: ends(600), ..claim_at(now) }).collect();
    assert!(cache.record_batch(staying.clone(), now).await.iter().all(Result::is_ok));
    let restless = claim_at(now);
    let second = Timestamp::from_millis(ends(600).as_millis() + 999).as_millis() / 1000;
    let length = || number(&server.say(&["HGET", &format!("{{claimd}}n{second}"), "listed"]));
    for _ in 0..8 {
        let repeated = (0..1000).map(|n| PendingClaim { expires_at: ends(600 + n % 2), ..restless }).collect();
        assert!(cache.record_batch(repeated, now).await.iter().all(Result::is_ok));
        // What is pending is listed when the store knows of all of it.
        assert_eq!(cache.pending(restless.tenant, None, 1000, now).await.map(|page| page.len()), Ok(301));
        cache.sweep(now, &mut |_| ()).await.expect("an answer");
        assert!(length() <= 2 * 301 + 1000, "{}", length());
    }
    assert!(length() >= 300);
    let mut told = Vec::new();
    cache.sweep(ends(620), &mut |device| told.push(device)).await.expect("an answer");
    let mut expected: Vec<DeviceId> = staying.iter().chain([&restless]).map(|claim| claim.device).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected, "each once");
}
