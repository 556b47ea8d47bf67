//! Records of the administration: roles, permissions, users, audit events, keys.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    profile::{ProfileChange, ProfileFields},
    secret::Secret,
};

/// A role: a set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Id.
    pub id: Uuid,
    /// Name, as in tokens.
    pub name: String,
    /// Purpose.
    #[serde(default)]
    pub description: String,
    /// Whether the service relies on it, so that it cannot be changed.
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
    /// Whether the service relies on it, so that it cannot be changed.
    #[serde(default)]
    pub built_in: bool,
}

/// Fields of a role to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleDraft {
    /// Name.
    pub name: String,
    /// Purpose.
    pub description: String,
}

/// Fields of a permission to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PermissionDraft {
    /// Name, such as `read:users`.
    pub name: String,
    /// Kind of resource.
    pub resource: String,
    /// Action.
    pub action: String,
}

/// A user to create. Its serialized form does not contain the password.
#[derive(Debug, Clone, Serialize)]
pub struct NewUser {
    /// E-mail address.
    pub email: String,
    /// 8 to 128 characters.
    #[serde(skip)]
    pub password: Secret,
    /// Profile fields.
    #[serde(flatten)]
    pub profile: ProfileFields,
    /// Names of roles; empty for the service's default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// Fields of a user to change; `None` keeps a field. Its serialized form does not contain the password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserPatch {
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Profile fields.
    #[serde(flatten)]
    pub profile: ProfileChange,
    /// The current password, to change one's own e-mail address more than five minutes after the
    /// login.
    #[serde(skip)]
    pub current_password: Option<Secret>,
}

/// Fields of a user to replace. Its serialized form does not contain the password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserDraft {
    /// E-mail address.
    pub email: String,
    /// Profile fields.
    #[serde(flatten)]
    pub profile: ProfileFields,
    /// The current password, to change one's own e-mail address more than five minutes after the
    /// login.
    #[serde(skip)]
    pub current_password: Option<Secret>,
}

/// An event of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditEvent {
    /// Kind of event.
    pub event_type: String,
    /// `success`, `denied` or `failure`.
    pub result: String,
    /// The acting user.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The entity that the event concerns.
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
    /// Address of the client.
    #[serde(default)]
    pub ip_address: Option<String>,
    /// User agent of the client.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// A stable code.
    #[serde(default)]
    pub detail: Option<String>,
    /// Time of the event.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
}

/// The keys after a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rotated {
    /// Id of the new key.
    pub kid: String,
    /// Id of the previous key.
    #[serde(default)]
    pub previous_kid: Option<String>,
}
