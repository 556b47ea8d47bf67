//! Ids: UUIDv7 (RFC 9562, section 5.7), because ids that grow keep an index compact.

use uuid::Uuid;

/// A new id, at `now` in milliseconds. `None` when the system gives no random bytes.
pub fn fresh(now: i64) -> Option<Uuid> {
    let mut bytes = [0; 10];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or_default(), &bytes).into_uuid())
}
