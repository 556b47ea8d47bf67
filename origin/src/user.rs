//! A user as clients see it: the same in the answers of both services.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{auth::EMAIL_VERIFIED, clock::rfc3339, store::UserRecord};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct User {
    id: Uuid,
    /// Trimmed and in lower case.
    #[schema(example = "ada@example.com")]
    email: String,
    /// Whether the user has proved to receive mail at this address: always false so far.
    #[schema(example = false)]
    email_verified: bool,
    /// May be empty.
    #[schema(example = "Ada")]
    first_name: String,
    /// May be empty.
    #[schema(example = "Lovelace")]
    last_name: String,
    #[schema(example = json!(["user"]))]
    roles: Vec<String>,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-01-02T03:04:05Z")]
    updated_at: String,
}

impl From<UserRecord> for User {
    fn from(record: UserRecord) -> Self {
        Self {
            id: record.id,
            email: record.email,
            email_verified: EMAIL_VERIFIED,
            first_name: record.first_name,
            last_name: record.last_name,
            roles: record.roles,
            created_at: rfc3339(record.created_at),
            updated_at: rfc3339(record.updated_at),
        }
    }
}
