//! What the transport counts itself.

use std::sync::atomic::AtomicU64;

/// Counters of all sockets, live.
#[derive(Debug, Default)]
pub struct Stats {
    /// Datagrams that are not CoAP messages, or not ones a client sends.
    pub malformed: AtomicU64,
    /// Requests seen before and answered as then.
    pub duplicates: AtomicU64,
    /// Answers withheld until the peer shows that it is there (4.01 with Echo).
    pub challenges: AtomicU64,
    /// Answers withheld altogether.
    pub silences: AtomicU64,
    /// Requests refused because too many are open.
    pub overloads: AtomicU64,
    /// Messages of ours sent again.
    pub retransmits: AtomicU64,
    /// Datagrams the kernel would not send.
    pub send_errors: AtomicU64,
    /// Datagrams the kernel dropped because we did not read them in time.
    pub dropped: AtomicU64,
    /// Observations now open.
    pub observations: AtomicU64,
}
