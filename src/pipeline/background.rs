//! Work that is done once the client has its answer.

use portcullis_token::revocation::RevocationEntry;

/// Work for after the answer; [`super::Gateway::run`] carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackgroundTask {
    /// Read the revocation log; the local copy is past its freshness.
    ReadRevocationLog,
    /// Append an entry to the revocation log again, which did not take it.
    AppendRevocation(RevocationEntry),
    /// Have the runtime count refused tokens.
    CountFailedAuth,
    /// Send the metrics to the store in a few seconds.
    FlushMetrics,
    /// Send the spans in a few seconds.
    SendSpansLater,
    /// Send the spans now: a batch is full.
    SendSpans,
    /// Fetch an issuer's key set if that is due. By issuer index.
    RefreshKeys(usize),
    /// Fetch an issuer's key set although it is fresh: the issuer revoked a key. By issuer index.
    RenewKeys(usize),
    /// Write an issuer's key set to the store. By issuer index.
    StoreKeys(usize),
}
