//! A user as clients see it: the same in the answers of both services.

use portcullis_client::profile::ProfileFields;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{auth::EMAIL_VERIFIED, clock::rfc3339, profile, store::UserRecord};

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
    #[serde(flatten)]
    #[schema(inline, value_type = profile::Answered)]
    profile: ProfileFields,
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
            profile: record.profile,
            roles: record.roles,
            created_at: rfc3339(record.created_at),
            updated_at: rfc3339(record.updated_at),
        }
    }
}
