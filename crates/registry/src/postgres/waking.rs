//! Waking the other nodes: one commits an event, or what makes their look-ups stale, and all look. A notification only wakes;
//! a node that misses one finds what there is when it looks by itself.
//!
//! A transaction that notifies takes a lock of the whole database at its commit. So no change does: one task does it for all
//! changes of the node, so many times a second at the most.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::AsyncMessage;

use super::{Core, Fault, Server, stale};

/// From one notification of a node to its next.
const BETWEEN: Duration = Duration::from_millis(50);
/// From the end of a listening connection to the next.
const RECONNECT: Duration = Duration::from_secs(2);
const CHANNEL: &str = "claimd_outbox";

/// The tasks, which end with this.
pub(super) struct Waking {
    tasks: [JoinHandle<()>; 3],
}

impl Waking {
    pub(super) fn start(core: &Arc<Core>, server: Server) -> Self {
        let tell = tokio::spawn(tell(Arc::clone(core)));
        let hear = tokio::spawn(hear(Arc::clone(core), server));
        Self { tasks: [tell, hear, tokio::spawn(stale::follow(Arc::clone(core)))] }
    }
}

impl Drop for Waking {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Tells the other nodes of this node's events.
async fn tell(core: Arc<Core>) {
    loop {
        core.told.notified().await;
        let told = async {
            let db = core.borrow().await?;
            db.batch(&format!("NOTIFY {CHANNEL}")).await?;
            db.give_back();
            Ok::<_, Fault>(())
        };
        if let Ok(Err(fault)) = tokio::time::timeout(core.patience, told).await {
            tracing::debug!(%fault, "the other nodes were not told of an event");
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Listens, on a connection of its own. A server that cannot notify, or something before it that does not pass it on, is no
/// fault: everyone looks each second anyway.
async fn hear(core: Arc<Core>, server: Server) {
    let mut said_before = String::new();
    loop {
        let Err(fault) = listen(&core, &server).await;
        let what = fault.to_string();
        if what != said_before {
            tracing::warn!(fault = what, "not listening for events of other nodes; looking each second goes on");
            said_before = what;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Until the connection ends.
async fn listen(core: &Core, server: &Server) -> Result<Infallible, Fault> {
    let late = |_| Fault::NoConnection("no answer in time".to_owned());
    let connecting = tokio::time::timeout(core.patience, server.config.connect(server.tls.clone()));
    let (client, mut connection) = connecting.await.map_err(late)??;
    let messages = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message? {
                core.shared.wake.notify_waiters();
                core.seen.told.notify_one();
            }
        }
        Err(Fault::NoConnection("the connection has ended".to_owned()))
    };
    let subscription = async {
        let sql = format!("LISTEN {CHANNEL}");
        tokio::time::timeout(core.patience, client.batch_execute(&sql)).await.map_err(late)??;
        // For what was missed before.
        core.shared.wake.notify_waiters();
        core.seen.told.notify_one();
        // The client lives as long as its connection is to.
        pending().await
    };
    tokio::select! {
        ended = messages => ended,
        refused = subscription => refused,
    }
}
