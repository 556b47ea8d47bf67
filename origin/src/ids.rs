//! Ids: UUIDv7 (RFC 9562, section 5.7), because ascending ids keep indexes compact.

use uuid::Uuid;

/// Makes an id for the time `now` in milliseconds. `None` if the system has no random bytes.
pub fn fresh(now: i64) -> Option<Uuid> {
    let mut bytes = [0; 10];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or_default(), &bytes).into_uuid())
}
