//! Ctrl-C and SIGTERM, for commands that stop at a safe point.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the user or the system wants this run to end.
pub(crate) async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers a signal ends the process by itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
