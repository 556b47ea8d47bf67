//! What administrators read and write: roles, permissions, users, events, keys.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::secret::Secret;

/// A role: a set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Id.
    pub id: Uuid,
    /// Name, by which tokens speak of it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// One that the service relies on, which stays as it is.
    #[serde(default)]
    pub built_in: bool,
}

/// A permission: one action on one kind of resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Id.
    pub id: Uuid,
    /// Name, such as `read:users`.
    pub name: String,
    /// Kind of resource.
    pub resource: String,
    /// Action.
    pub action: String,
    /// One that the service relies on, which stays as it is.
    #[serde(default)]
    pub built_in: bool,
}

/// What is written of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleDraft {
    /// Name.
    pub name: String,
    /// What it is for.
    pub description: String,
}

/// What is written of a permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PermissionDraft {
    /// Name, such as `read:users`.
    pub name: String,
    /// Kind of resource.
    pub resource: String,
    /// Action.
    pub action: String,
}

/// A user that an administrator makes.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// E-mail address.
    pub email: String,
    /// 8 to 128 characters.
    pub password: Secret,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
    /// Names of its roles; none for the service's default.
    pub roles: Vec<String>,
}

/// What is changed of a user; what is `None` stays. Serialized, it holds no password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserPatch {
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// First name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// The current password, for another e-mail address of one's own. Not needed within five
    /// minutes of the login.
    #[serde(skip)]
    pub current_password: Option<Secret>,
}

/// What is written of a user in place of what is there. Serialized, it holds no password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserDraft {
    /// E-mail address.
    pub email: String,
    /// First name, may be empty.
    pub first_name: String,
    /// Last name, may be empty.
    pub last_name: String,
    /// The current password, for another e-mail address of one's own. Not needed within five
    /// minutes of the login.
    #[serde(skip)]
    pub current_password: Option<Secret>,
}

/// What happened, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditEvent {
    /// Kind of event.
    pub event_type: String,
    /// `success`, `denied` or `failure`.
    pub result: String,
    /// Who did it.
    #[serde(default)]
    pub user_id: Option<String>,
    /// To whom or what.
    #[serde(default)]
    pub entity_id: Option<String>,
    /// The route's template.
    #[serde(default)]
    pub operation: Option<String>,
    /// Id of the request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// W3C trace id.
    #[serde(default)]
    pub trace_id: Option<String>,
    /// W3C span id.
    #[serde(default)]
    pub span_id: Option<String>,
    /// Where it came from.
    #[serde(default)]
    pub ip_address: Option<String>,
    /// What the program called itself.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// A stable code.
    #[serde(default)]
    pub detail: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
}

/// The keys after a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rotated {
    /// Id of the new key.
    pub kid: String,
    /// Id of the one before.
    #[serde(default)]
    pub previous_kid: Option<String>,
}
