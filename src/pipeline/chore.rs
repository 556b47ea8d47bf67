//! What is left to do once the client has its answer.

use super::{Gate, ports::Ports};
use crate::revocation::RevocationEntry;

/// Work that is done once the client has its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Look at the revocation log; the copy is past its freshness.
    ReadLog,
    /// Have refused tokens counted.
    CountFailures,
    /// Hand on what was counted, in a few seconds.
    Flush,
    /// Send spans, in a few seconds.
    SendSpansLater,
    /// Send spans; there are many.
    SendSpans,
    /// Tell the revocation log again of an end that it did not take.
    Note(RevocationEntry),
    /// Ask an issuer again; its set is past freshness. By index.
    Refresh(usize),
    /// Ask an issuer again at once: it revoked a key. By index.
    Renew(usize),
    /// Write an issuer's set to the store. By index.
    Store(usize),
}

impl Gate {
    /// Carries out a chore.
    pub async fn run<P: Ports>(&self, chore: Chore, ports: &P) {
        match chore {
            Chore::Refresh(issuer) => self.refresh(issuer, ports).await,
            Chore::Renew(issuer) => self.renew(issuer, ports).await,
            Chore::Store(issuer) => self.store(issuer, ports).await,
            Chore::ReadLog => {
                // Several requests may have asked for it.
                let is_due = self.revocations.borrow().is_read_due(ports.now());
                if is_due {
                    self.read_log(ports).await;
                }
            }
            Chore::CountFailures => self.count_failures(ports).await,
            Chore::Flush => self.flush_later(ports).await,
            Chore::SendSpansLater => self.send_spans_later(ports).await,
            Chore::SendSpans => self.send_spans(ports).await,
            Chore::Note(entry) => self.tell_log(entry, ports).await,
        }
    }
}
