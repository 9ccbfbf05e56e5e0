//! Waking the other nodes: one commits an event, all read the outbox. A notification only wakes; a node that misses one finds
//! the event when it looks by itself.
//!
//! A transaction that notifies takes a lock of the whole database at its commit. So no change does: one task does it for all
//! changes of the node, so many times a second at the most.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, NoTls};

use super::Core;

/// From one notification of a node to its next.
const BETWEEN: Duration = Duration::from_millis(50);
/// From the end of a listening connection to the next.
const RECONNECT: Duration = Duration::from_secs(2);
const CHANNEL: &str = "claimd_outbox";

/// The two tasks, which end with this.
pub(super) struct Waking {
    tasks: [JoinHandle<()>; 2],
}

impl Waking {
    pub(super) fn start(core: &Arc<Core>, server: tokio_postgres::Config) -> Self {
        Self { tasks: [tokio::spawn(tell(Arc::clone(core))), tokio::spawn(hear(Arc::clone(core), server))] }
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
            Ok::<_, super::Fault>(())
        };
        if let Ok(Err(fault)) = tokio::time::timeout(core.patience, told).await {
            tracing::debug!(%fault, "the other nodes were not told of an event");
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Listens, on a connection of its own.
async fn hear(core: Arc<Core>, server: tokio_postgres::Config) {
    loop {
        if let Err(error) = listen(&core, &server).await {
            tracing::debug!(%error, "not listening for events of other nodes");
        }
        tokio::time::sleep(RECONNECT).await;
        // For what was missed meanwhile.
        core.shared.wake.notify_waiters();
    }
}

/// Until the connection ends.
async fn listen(core: &Core, server: &tokio_postgres::Config) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = server.connect(NoTls).await?;
    let messages = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message? {
                core.shared.wake.notify_waiters();
            }
        }
        Ok(())
    };
    let subscription = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        // The client lives as long as its connection is to.
        pending().await
    };
    tokio::select! {
        ended = messages => ended,
        refused = subscription => refused,
    }
}
