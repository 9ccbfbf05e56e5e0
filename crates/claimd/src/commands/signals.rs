//! Ctrl-C and SIGTERM, for commands that stop at a safe point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::out::Exit;

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

/// Set at the first Ctrl-C or SIGTERM, for work without a runtime that looks at it between two steps; the second one ends the
/// process at once.
pub(crate) fn noted() -> Arc<AtomicBool> {
    let noted = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&noted);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            asked_to_stop().await;
            stop.store(true, Ordering::Relaxed);
            asked_to_stop().await;
        });
        std::process::exit(i32::from(Exit::Stopped as u8));
    });
    noted
}
