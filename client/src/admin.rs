//! [`AdminClient`]: the calls by which administrators, and users for themselves, manage
//! users, roles, permissions, the audit log and signing keys.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    account::{AuthClient, User},
    error::ClientError,
    request::{ApiAnswer, ApiRequest, Method, Repeat},
    secret::Secret,
};

/// Which part of a list is asked for. What is left out is the service's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries at most, 1 to 100; 10 by default.
    pub limit: Option<u32>,
    /// Entries before it.
    pub offset: Option<u64>,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where they lie in the whole.
    pub pagination: Pagination,
}

/// Where a part lies in a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Pagination {
    /// Entries at most.
    #[serde(default)]
    pub limit: u32,
    /// Entries before it.
    #[serde(default)]
    pub offset: u64,
    /// Entries in all.
    #[serde(default)]
    pub total: u64,
}

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

/// What is changed of a user; what is `None` stays.
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
}

/// Which events of the audit log are asked for. What is left out does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Kind of event.
    pub event_type: Option<String>,
    /// `success`, `denied` or `failure`.
    pub result: Option<String>,
    /// Who did it.
    pub user_id: Option<Uuid>,
    /// To whom or what.
    pub entity_id: Option<String>,
    /// Not before.
    pub from: Option<OffsetDateTime>,
    /// Not after.
    pub to: Option<OffsetDateTime>,
    /// Events at most, 1 to 100.
    pub limit: Option<u32>,
    /// `next` of the part before.
    pub cursor: Option<String>,
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

/// Part of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditPage {
    /// The events.
    pub events: Vec<AuditEvent>,
    /// The cursor of the next part, if there is one.
    #[serde(default)]
    pub next: Option<String>,
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

/// Calls in somebody's name. Implemented by [`AuthenticatedClient`] for a session, and
/// by [`Bearer`] for a token at hand; a fake for tests overrides [`AdminClient::send`] or
/// the calls that a test is about. It can be used as `dyn AdminClient`.
///
/// Who is not an administrator gets 403, but for what is said to be one's own.
///
/// [`AuthenticatedClient`]: crate::session::AuthenticatedClient
///
/// # Errors
/// Every call fails with [`ClientError`] alone.
#[async_trait]
pub trait AdminClient: fmt::Debug + Send + Sync {
    /// Makes a call with the caller's token.
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError>;

    /// Roles.
    async fn roles(&self, page: Page) -> Result<Listed<Role>, ClientError> {
        listed(&self.send(paged("/api/v1/auth/roles", page)).await?, "roles")
    }

    /// A role.
    async fn role(&self, role_id: Uuid) -> Result<Role, ClientError> {
        member(&self.send(of(Method::GET, "/api/v1/auth/roles/{role_id}", &[role_id])).await?, "role")
    }

    /// Makes a role. 409 `name_taken`.
    async fn create_role(&self, draft: &RoleDraft) -> Result<Role, ClientError> {
        member(&self.send(of(Method::POST, "/api/v1/auth/roles", &[]).with_json(draft)).await?, "role")
    }

    /// Writes a role anew. 409 `name_taken`, `built_in`.
    async fn update_role(&self, role_id: Uuid, draft: &RoleDraft) -> Result<Role, ClientError> {
        let request = of(Method::PUT, "/api/v1/auth/roles/{role_id}", &[role_id]).with_json(draft);
        member(&self.send(request).await?, "role")
    }

    /// Deletes a role. 409 `in_use`, `built_in`.
    async fn delete_role(&self, role_id: Uuid) -> Result<(), ClientError> {
        self.send(of(Method::DELETE, "/api/v1/auth/roles/{role_id}", &[role_id])).await.map(|_| ())
    }

    /// The permissions of a role.
    async fn role_permissions(&self, role_id: Uuid, page: Page) -> Result<Listed<Permission>, ClientError> {
        let request = paged("/api/v1/auth/roles/{role_id}/permissions", page).with_segment(&role_id.to_string());
        listed(&self.send(request).await?, "permissions")
    }

    /// Gives a role a permission.
    async fn grant_permission(&self, role_id: Uuid, permission_id: Uuid) -> Result<(), ClientError> {
        let request = of(Method::POST, "/api/v1/auth/roles/{role_id}/permissions", &[role_id])
            .with_json(&json!({ "permission_id": permission_id }))
            // Giving it twice is giving it once.
            .with_repeat(Repeat::Always);
        self.send(request).await.map(|_| ())
    }

    /// Takes a permission from a role.
    async fn revoke_permission(&self, role_id: Uuid, permission_id: Uuid) -> Result<(), ClientError> {
        let route = "/api/v1/auth/roles/{role_id}/permissions/{permission_id}";
        self.send(of(Method::DELETE, route, &[role_id, permission_id])).await.map(|_| ())
    }

    /// Permissions.
    async fn permissions(&self, page: Page) -> Result<Listed<Permission>, ClientError> {
        listed(&self.send(paged("/api/v1/auth/permissions", page)).await?, "permissions")
    }

    /// A permission.
    async fn permission(&self, permission_id: Uuid) -> Result<Permission, ClientError> {
        let request = of(Method::GET, "/api/v1/auth/permissions/{permission_id}", &[permission_id]);
        member(&self.send(request).await?, "permission")
    }

    /// Makes a permission. 409 `name_taken`.
    async fn create_permission(&self, draft: &PermissionDraft) -> Result<Permission, ClientError> {
        member(&self.send(of(Method::POST, "/api/v1/auth/permissions", &[]).with_json(draft)).await?, "permission")
    }

    /// Writes a permission anew. 409 `name_taken`, `built_in`.
    async fn update_permission(&self, permission_id: Uuid, draft: &PermissionDraft) -> Result<Permission, ClientError> {
        let request = of(Method::PUT, "/api/v1/auth/permissions/{permission_id}", &[permission_id]).with_json(draft);
        member(&self.send(request).await?, "permission")
    }

    /// Deletes a permission. 409 `in_use`, `built_in`.
    async fn delete_permission(&self, permission_id: Uuid) -> Result<(), ClientError> {
        let request = of(Method::DELETE, "/api/v1/auth/permissions/{permission_id}", &[permission_id]);
        self.send(request).await.map(|_| ())
    }

    /// The roles of a user.
    async fn user_roles(&self, user_id: Uuid) -> Result<Vec<Role>, ClientError> {
        member(&self.send(of(Method::GET, "/api/v1/auth/users/{id}/roles", &[user_id])).await?, "roles")
    }

    /// Gives a user a role, from the next refresh on.
    async fn assign_role(&self, user_id: Uuid, role_id: Uuid) -> Result<(), ClientError> {
        let request = of(Method::POST, "/api/v1/auth/users/{id}/roles", &[user_id])
            .with_json(&json!({ "role_id": role_id }))
            // Giving it twice is giving it once.
            .with_repeat(Repeat::Always);
        self.send(request).await.map(|_| ())
    }

    /// Gives a user these roles and no others. Where one is taken away, the user's open
    /// tokens are revoked.
    async fn set_roles(&self, user_id: Uuid, role_ids: &[Uuid]) -> Result<Vec<Role>, ClientError> {
        let request =
            of(Method::PUT, "/api/v1/auth/users/{id}/roles", &[user_id]).with_json(&json!({ "role_ids": role_ids }));
        member(&self.send(request).await?, "roles")
    }

    /// Takes a role from a user, whose open tokens are revoked. 409 `last_admin`.
    async fn remove_role(&self, user_id: Uuid, role_id: Uuid) -> Result<(), ClientError> {
        let request = of(Method::DELETE, "/api/v1/auth/users/{id}/roles/{role_id}", &[user_id, role_id]);
        self.send(request).await.map(|_| ())
    }

    /// Names of a user's permissions; everybody may ask for their own.
    async fn user_permissions(&self, user_id: Uuid) -> Result<Vec<String>, ClientError> {
        member(&self.send(of(Method::GET, "/api/v1/auth/users/{id}/permissions", &[user_id])).await?, "permissions")
    }

    /// Whether a user may do something now; everybody may ask for themselves. The answer
    /// is never remembered.
    async fn is_allowed(&self, user_id: Uuid, permission: &str) -> Result<bool, ClientError> {
        let request = of(Method::POST, "/api/v1/auth/permissions/check", &[])
            .with_json(&json!({ "user_id": user_id, "permission": permission }))
            // A question, though it is a POST.
            .with_repeat(Repeat::Always);
        member(&self.send(request).await?, "allowed")
    }

    /// Users.
    async fn users(&self, page: Page) -> Result<Listed<User>, ClientError> {
        listed(&self.send(paged("/api/v1/users", page)).await?, "data")
    }

    /// Makes a user. 409 `email_taken`.
    async fn create_user(&self, user: &NewUser) -> Result<User, ClientError> {
        let mut body = json!({
            "email": user.email,
            "password": user.password.expose(),
            "first_name": user.first_name,
            "last_name": user.last_name,
        });
        if let Some(members) = body.as_object_mut().filter(|_| !user.roles.is_empty()) {
            members.insert("roles".to_owned(), json!(user.roles));
        }
        member(&self.send(of(Method::POST, "/api/v1/users", &[]).with_json(&body)).await?, "data")
    }

    /// Changes a user; everybody may change themselves. 409 `email_taken`.
    async fn update_user(&self, user_id: Uuid, patch: &UserPatch) -> Result<User, ClientError> {
        let request = of(Method::PATCH, "/api/v1/users/{id}", &[user_id]).with_json(patch);
        member(&self.send(request).await?, "data")
    }

    /// Deletes a user with all sessions; everybody may delete themselves. 409
    /// `last_admin`.
    async fn delete_user(&self, user_id: Uuid) -> Result<(), ClientError> {
        self.send(of(Method::DELETE, "/api/v1/users/{id}", &[user_id])).await.map(|_| ())
    }

    /// Part of the audit log.
    async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        let at = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
        let members = [
            ("event_type", query.event_type.clone()),
            ("result", query.result.clone()),
            ("user_id", query.user_id.map(|id| id.to_string())),
            ("entity_id", query.entity_id.clone()),
            ("from", at(query.from)),
            ("to", at(query.to)),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        let mut request = of(Method::GET, "/api/v1/auth/audit", &[]);
        for (name, value) in members {
            if let Some(value) = value {
                request = request.with_query(name, &value);
            }
        }
        self.send(request).await?.json()
    }

    /// Makes a new signing key. Tokens of the old one stay good.
    async fn rotate_keys(&self) -> Result<Rotated, ClientError> {
        self.send(of(Method::POST, "/api/v1/auth/keys/rotate", &[])).await?.json()
    }
}

fn of(method: Method, route: &'static str, ids: &[Uuid]) -> ApiRequest {
    ids.iter().fold(ApiRequest::new(method, route), |request, id| request.with_segment(&id.to_string()))
}

fn paged(route: &'static str, page: Page) -> ApiRequest {
    let mut request = ApiRequest::new(Method::GET, route);
    if let Some(limit) = page.limit {
        request = request.with_query("limit", &limit.to_string());
    }
    if let Some(offset) = page.offset {
        request = request.with_query("offset", &offset.to_string());
    }
    request
}

fn unexpected(answer: &ApiAnswer) -> ClientError {
    ClientError::Malformed { status: answer.status(), reason: "not the JSON that was expected" }
}

/// One member of an answer.
fn member<T: DeserializeOwned>(answer: &ApiAnswer, name: &str) -> Result<T, ClientError> {
    let mut document: Value = answer.json()?;
    let value = document.get_mut(name).map(Value::take).ok_or_else(|| unexpected(answer))?;
    serde_json::from_value(value).map_err(|_| unexpected(answer))
}

fn listed<T: DeserializeOwned>(answer: &ApiAnswer, name: &str) -> Result<Listed<T>, ClientError> {
    let pagination = member::<Pagination>(answer, "pagination").unwrap_or_default();
    Ok(Listed { entries: member(answer, name)?, pagination })
}

/// Calls with an access token at hand, such as that of a request to one's own service.
#[derive(Debug)]
pub struct Bearer<'a> {
    auth: &'a dyn AuthClient,
    access_token: Secret,
}

impl<'a> Bearer<'a> {
    /// Calls by a client with a token.
    pub const fn new(auth: &'a dyn AuthClient, access_token: Secret) -> Self {
        Self { auth, access_token }
    }
}

#[async_trait]
impl AdminClient for Bearer<'_> {
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        self.auth.exchange(request.with_token(&self.access_token)).await
    }
}
