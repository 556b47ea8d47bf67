//! Work that is done once the client has its answer.

use portcullis_token::revocation::RevocationEntry;

/// Work for after the answer; [`super::Gateway::run`] carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackgroundTask {
    /// Read the revocation log; the local copy is past its freshness.
    ReadRevocationLog,
    /// Append an entry to the revocation log again, which did not take it.
    AppendRevocation(RevocationEntry),
    /// Have the runtime count a refused token.
    CountFailedAuth {
        /// Index of the limit in the policy.
        limit: usize,
        /// The client's address.
        address: String,
    },
    /// Send the metrics to the store in a few seconds.
    FlushMetrics,
    /// Send the spans in a few seconds.
    SendSpansLater,
    /// Send the spans now: a batch is full.
    SendSpans,
    /// A task of the key set of the issuer with this index.
    Keys(usize, KeyTask),
}

/// Work on an issuer's key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTask {
    /// Fetch it if that is due.
    Refresh,
    /// Fetch it although it is fresh: the schedule is due, or the issuer revoked a key.
    Renew,
    /// Write it to the store.
    Store,
}
