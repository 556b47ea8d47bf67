//! Locks of writing transactions.

use uuid::Uuid;

use crate::limits;

/// The subject of a writing transaction. Two transactions with the same subject never run at the same
/// time, even in two processes. The variants are in the order in which a transaction takes them, so
/// transactions do not deadlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Lock {
    /// The set of signing keys.
    Keys,
    /// The roles, the permissions, and their assignment.
    Access,
    /// The accounts that hold the administrators' role.
    Administrators,
    /// One account with its sessions and tokens.
    Account(Uuid),
    /// The deletion of old rows. Two deletions could wait for each other's rows.
    Sweep,
}

impl Lock {
    /// Returns the key of PostgreSQL's advisory lock. If two accounts have the same key, one
    /// transaction waits needlessly.
    pub(super) fn key(self) -> i64 {
        match self {
            Self::Keys => 1,
            Self::Administrators => 2,
            Self::Access => 3,
            Self::Sweep => 4,
            Self::Account(id) => {
                // The random half of a UUIDv7.
                let (_, random) = id.as_u64_pair();
                i64::from_ne_bytes(random.to_ne_bytes())
            }
        }
    }

    /// Returns the number of the queue in which a process's transactions wait for the lock.
    pub(super) fn queue(self) -> usize {
        usize::try_from(self.key().unsigned_abs()).unwrap_or_default() % limits::LOCK_QUEUES
    }
}
