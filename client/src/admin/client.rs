//! [`AdminClient`]: the calls of administrators, and of users for their own account.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    list::{AuditPage, AuditQuery, Listed, Page, UserQuery},
    record::{NewUser, Permission, PermissionDraft, Role, RoleDraft, Rotated, UserDraft, UserPatch},
};
use crate::{
    account::{AuthClient, User},
    error::ClientError,
    precondition::{EntityTag, Revalidated, Versioned},
    request::{ApiAnswer, ApiRequest, Method, Repeat},
    secret::{Secret, body_with_secret},
};

/// Calls with an administrator's or a user's token. The trait can be used as `dyn AdminClient`.
///
/// [`AuthenticatedClient`] implements it for a session, and [`Bearer`] for a single token. A fake for
/// tests implements [`AdminClient::send`], or overrides single calls. Users who are not
/// administrators receive 403, except for calls marked "own account".
///
/// Changes of users accept a version (`if_match`): if the user has another, the service answers 412
/// ([`ErrorKind::Stale`]) and changes nothing. Changing one's own e-mail address, and deleting one's
/// own account, need the current password or a login within the last five minutes; otherwise the
/// call fails with [`ErrorKind::ReauthenticationRequired`]:
///
/// ```no_run
/// use portcullis_client::{AdminClient, AuthenticatedClient, ClientError, ErrorKind, Secret, admin::UserPatch};
///
/// async fn change_email(session: &AuthenticatedClient, email: &str, ask: impl Fn() -> Secret) -> Result<(), ClientError> {
///     let id = session.me().await?.id;
///     let patch = UserPatch { email: Some(email.to_owned()), ..UserPatch::default() };
///     match session.update_user(id, &patch, None).await {
///         Err(error) if error.kind() == ErrorKind::ReauthenticationRequired => {
///             let confirmed = UserPatch { current_password: Some(ask()), ..patch };
///             session.update_user(id, &confirmed, None).await.map(|_| ())
///         }
///         result => result.map(|_| ()),
///     }
/// }
/// ```
///
/// [`AuthenticatedClient`]: crate::session::AuthenticatedClient
/// [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale
/// [`ErrorKind::ReauthenticationRequired`]: crate::error::ErrorKind::ReauthenticationRequired
///
/// # Errors
/// Every call fails with [`ClientError`] alone.
#[async_trait]
pub trait AdminClient: fmt::Debug + Send + Sync {
    /// Calls any route with the caller's token.
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError>;

    /// Lists roles.
    async fn roles(&self, page: Page) -> Result<Listed<Role>, ClientError> {
        self.send(page.request("/api/v1/auth/roles")).await?.json()
    }

    /// Returns a role.
    async fn role(&self, role_id: Uuid) -> Result<Role, ClientError> {
        self.send(request(Method::GET, "/api/v1/auth/roles/{role_id}", &[role_id])).await?.member("role")
    }

    /// Creates a role. 409 `name_taken`.
    async fn create_role(&self, draft: &RoleDraft) -> Result<Role, ClientError> {
        self.send(request(Method::POST, "/api/v1/auth/roles", &[]).with_json(draft)).await?.member("role")
    }

    /// Replaces a role. 409 `name_taken`, `built_in`.
    async fn update_role(&self, role_id: Uuid, draft: &RoleDraft) -> Result<Role, ClientError> {
        let request = request(Method::PUT, "/api/v1/auth/roles/{role_id}", &[role_id]).with_json(draft);
        self.send(request).await?.member("role")
    }

    /// Deletes a role. 409 `in_use`, `built_in`.
    async fn delete_role(&self, role_id: Uuid) -> Result<(), ClientError> {
        self.send(request(Method::DELETE, "/api/v1/auth/roles/{role_id}", &[role_id])).await.map(|_| ())
    }

    /// Lists the permissions of a role.
    async fn role_permissions(&self, role_id: Uuid, page: Page) -> Result<Listed<Permission>, ClientError> {
        let request = page.request("/api/v1/auth/roles/{role_id}/permissions").with_segment(&role_id.to_string());
        self.send(request).await?.json()
    }

    /// Grants a permission to a role.
    async fn grant_permission(&self, role_id: Uuid, permission_id: Uuid) -> Result<(), ClientError> {
        let request = request(Method::POST, "/api/v1/auth/roles/{role_id}/permissions", &[role_id])
            .with_json(&json!({ "permission_id": permission_id }))
            // Idempotent although it is a POST.
            .with_repeat(Repeat::Always);
        self.send(request).await.map(|_| ())
    }

    /// Revokes a permission of a role.
    async fn revoke_permission(&self, role_id: Uuid, permission_id: Uuid) -> Result<(), ClientError> {
        let route = "/api/v1/auth/roles/{role_id}/permissions/{permission_id}";
        self.send(request(Method::DELETE, route, &[role_id, permission_id])).await.map(|_| ())
    }

    /// Lists permissions.
    async fn permissions(&self, page: Page) -> Result<Listed<Permission>, ClientError> {
        self.send(page.request("/api/v1/auth/permissions")).await?.json()
    }

    /// Returns a permission.
    async fn permission(&self, permission_id: Uuid) -> Result<Permission, ClientError> {
        let request = request(Method::GET, "/api/v1/auth/permissions/{permission_id}", &[permission_id]);
        self.send(request).await?.member("permission")
    }

    /// Creates a permission. 409 `name_taken`.
    async fn create_permission(&self, draft: &PermissionDraft) -> Result<Permission, ClientError> {
        self.send(request(Method::POST, "/api/v1/auth/permissions", &[]).with_json(draft)).await?.member("permission")
    }

    /// Replaces a permission. 409 `name_taken`, `built_in`.
    async fn update_permission(&self, permission_id: Uuid, draft: &PermissionDraft) -> Result<Permission, ClientError> {
        let request =
            request(Method::PUT, "/api/v1/auth/permissions/{permission_id}", &[permission_id]).with_json(draft);
        self.send(request).await?.member("permission")
    }

    /// Deletes a permission. 409 `in_use`, `built_in`.
    async fn delete_permission(&self, permission_id: Uuid) -> Result<(), ClientError> {
        let request = request(Method::DELETE, "/api/v1/auth/permissions/{permission_id}", &[permission_id]);
        self.send(request).await.map(|_| ())
    }

    /// Lists the roles of a user.
    async fn user_roles(&self, user_id: Uuid) -> Result<Vec<Role>, ClientError> {
        self.send(request(Method::GET, "/api/v1/auth/users/{id}/roles", &[user_id])).await?.member("roles")
    }

    /// Assigns a role to a user, effective from the next refresh.
    async fn assign_role(&self, user_id: Uuid, role_id: Uuid) -> Result<(), ClientError> {
        let request = request(Method::POST, "/api/v1/auth/users/{id}/roles", &[user_id])
            .with_json(&json!({ "role_id": role_id }))
            // Idempotent although it is a POST.
            .with_repeat(Repeat::Always);
        self.send(request).await.map(|_| ())
    }

    /// Replaces the roles of a user. If a role is removed, the user's open tokens are revoked.
    async fn set_roles(&self, user_id: Uuid, role_ids: &[Uuid]) -> Result<Vec<Role>, ClientError> {
        let request = request(Method::PUT, "/api/v1/auth/users/{id}/roles", &[user_id])
            .with_json(&json!({ "role_ids": role_ids }));
        self.send(request).await?.member("roles")
    }

    /// Takes a role from a user, whose open tokens are revoked. 409 `last_admin`.
    async fn remove_role(&self, user_id: Uuid, role_id: Uuid) -> Result<(), ClientError> {
        let request = request(Method::DELETE, "/api/v1/auth/users/{id}/roles/{role_id}", &[user_id, role_id]);
        self.send(request).await.map(|_| ())
    }

    /// Lists the names of a user's permissions (own account).
    async fn user_permissions(&self, user_id: Uuid) -> Result<Vec<String>, ClientError> {
        self.send(request(Method::GET, "/api/v1/auth/users/{id}/permissions", &[user_id])).await?.member("permissions")
    }

    /// Returns whether a user has a permission now (own account). The answer is never cached.
    async fn is_allowed(&self, user_id: Uuid, permission: &str) -> Result<bool, ClientError> {
        let request = request(Method::POST, "/api/v1/auth/permissions/check", &[])
            .with_json(&json!({ "user_id": user_id, "permission": permission }))
            // Changes nothing although it is a POST.
            .with_repeat(Repeat::Always);
        self.send(request).await?.member("allowed")
    }

    /// Lists a part of the users; [`Pages`](super::Pages) reads all of them.
    async fn users(&self, query: &UserQuery) -> Result<Listed<User>, ClientError> {
        self.send(query.request()).await?.json()
    }

    /// Returns a user with its version (own account).
    async fn read_user(&self, user_id: Uuid) -> Result<Versioned<User>, ClientError> {
        versioned(&self.send(request(Method::GET, "/api/v1/users/{id}", &[user_id])).await?)
    }

    /// Returns a user unless it has the known version, without a body then (own account).
    async fn revalidate_user(&self, user_id: Uuid, version: &EntityTag) -> Result<Revalidated<User>, ClientError> {
        let request = request(Method::GET, "/api/v1/users/{id}", &[user_id]).with_if_none_match(version);
        let answer = self.send(request).await?;
        if answer.is_not_modified() {
            return Ok(Revalidated::NotModified);
        }
        versioned(&answer).map(Revalidated::Changed)
    }

    /// Creates a user. 409 `email_taken`.
    async fn create_user(&self, user: &NewUser) -> Result<User, ClientError> {
        let body = body_with_secret(user, "password", Some(&user.password));
        self.send(request(Method::POST, "/api/v1/users", &[]).with_json(&body)).await?.member("data")
    }

    /// Replaces a user (own account). 409 `email_taken`.
    async fn replace_user(
        &self,
        user_id: Uuid,
        draft: &UserDraft,
        if_match: Option<&EntityTag>,
    ) -> Result<Versioned<User>, ClientError> {
        let request = request(Method::PUT, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, draft, draft.current_password.as_ref());
        versioned(&self.send(with_version(request, if_match)).await?)
    }

    /// Changes some fields of a user (own account). 409 `email_taken`.
    async fn update_user(
        &self,
        user_id: Uuid,
        patch: &UserPatch,
        if_match: Option<&EntityTag>,
    ) -> Result<Versioned<User>, ClientError> {
        let request = request(Method::PATCH, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, patch, patch.current_password.as_ref());
        versioned(&self.send(with_version(request, if_match)).await?)
    }

    /// Deletes a user with all sessions (own account). 409 `last_admin`.
    async fn delete_user(&self, user_id: Uuid, if_match: Option<&EntityTag>) -> Result<(), ClientError> {
        let request = request(Method::DELETE, "/api/v1/users/{id}", &[user_id]);
        self.send(with_version(request, if_match)).await.map(|_| ())
    }

    /// Deletes one's own account with all sessions, confirmed by its current password. 401
    /// `invalid_credentials` if that is wrong.
    async fn delete_own_account(
        &self,
        user_id: Uuid,
        current_password: &Secret,
        if_match: Option<&EntityTag>,
    ) -> Result<(), ClientError> {
        let request = request(Method::DELETE, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, &json!({}), Some(current_password));
        self.send(with_version(request, if_match)).await.map(|_| ())
    }

    /// Lists a part of the audit log; [`Pages`](super::Pages) reads all of it.
    async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.send(query.request()?).await?.json()
    }

    /// Rotates the signing key. Tokens of the old one stay valid.
    async fn rotate_keys(&self) -> Result<Rotated, ClientError> {
        self.send(request(Method::POST, "/api/v1/auth/keys/rotate", &[])).await?.json()
    }
}

fn request(method: Method, route: &'static str, ids: &[Uuid]) -> ApiRequest {
    ids.iter().fold(ApiRequest::new(method, route), |request, id| request.with_segment(&id.to_string()))
}

/// Sets the body of a change of an account. A change with the current password is not repeated: a
/// wrong password would count twice.
fn with_password(request: ApiRequest, fields: &impl Serialize, current_password: Option<&Secret>) -> ApiRequest {
    let request = request.with_json(&body_with_secret(fields, "current_password", current_password));
    if current_password.is_some() { request.with_repeat(Repeat::IfUnsent) } else { request }
}

/// Restricts a change to one version, if one is named.
fn with_version(request: ApiRequest, if_match: Option<&EntityTag>) -> ApiRequest {
    match if_match {
        Some(version) => request.with_if_match(version),
        None => request,
    }
}

/// Reads a user with its version. An answer without a version is malformed: a later change could not
/// be restricted to it.
fn versioned(answer: &ApiAnswer) -> Result<Versioned<User>, ClientError> {
    let version = answer.version().cloned();
    let reason = "it has no entity tag";
    let version = version.ok_or(ClientError::Malformed { status: answer.status(), reason })?;
    Ok(Versioned { value: answer.member("data")?, version })
}

/// Calls with a single access token, such as that of a request to one's own service.
#[derive(Debug)]
pub struct Bearer<'a> {
    auth: &'a dyn AuthClient,
    access_token: Secret,
}

impl<'a> Bearer<'a> {
    /// Returns a client that sends this token.
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
