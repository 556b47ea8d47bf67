//! [`AdminClient`]: the calls by which administrators, and users for themselves, manage
//! users, roles, permissions, the audit log and signing keys.

mod list;
mod record;

use std::fmt;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

pub use list::{AuditPage, AuditQuery, Listed, Page, Pages, Pagination, UserQuery};
pub use record::{AuditEvent, NewUser, Permission, PermissionDraft, Role, RoleDraft, Rotated, UserDraft, UserPatch};

use crate::{
    account::{AuthClient, User},
    error::ClientError,
    precondition::{EntityTag, Revalidated, Versioned},
    request::{ApiAnswer, ApiRequest, Method, Repeat},
    secret::Secret,
};

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
        listed(&self.send(page.request("/api/v1/auth/roles")).await?, "roles")
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
        let request = page.request("/api/v1/auth/roles/{role_id}/permissions").with_segment(&role_id.to_string());
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
        listed(&self.send(page.request("/api/v1/auth/permissions")).await?, "permissions")
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

    /// Part of the users; [`Pages::of_users`] walks all of them.
    async fn users(&self, query: &UserQuery) -> Result<Listed<User>, ClientError> {
        listed(&self.send(query.request()).await?, "data")
    }

    /// A user with its version; everybody may read themselves.
    async fn read_user(&self, user_id: Uuid) -> Result<Versioned<User>, ClientError> {
        versioned(&self.send(of(Method::GET, "/api/v1/users/{id}", &[user_id])).await?)
    }

    /// A user, unless it is the version that one has; everybody may read themselves.
    async fn revalidate_user(&self, user_id: Uuid, version: &EntityTag) -> Result<Revalidated<User>, ClientError> {
        let request = of(Method::GET, "/api/v1/users/{id}", &[user_id]).with_if_none_match(version);
        let answer = self.send(request).await?;
        if answer.is_not_modified() {
            return Ok(Revalidated::NotModified);
        }
        versioned(&answer).map(Revalidated::Changed)
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

    /// Replaces a user; everybody may replace themselves. Only this version, if one is
    /// named: 412 ([`ErrorKind::Stale`]) where there is another. 409 `email_taken`.
    /// [`ErrorKind::ReauthenticationRequired`] where another e-mail address of one's own needs
    /// the current password.
    ///
    /// [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale
    /// [`ErrorKind::ReauthenticationRequired`]: crate::error::ErrorKind::ReauthenticationRequired
    async fn replace_user(
        &self,
        user_id: Uuid,
        draft: &UserDraft,
        if_match: Option<&EntityTag>,
    ) -> Result<Versioned<User>, ClientError> {
        let request = of(Method::PUT, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, json!(draft), draft.current_password.as_ref());
        versioned(&self.send(only(request, if_match)).await?)
    }

    /// Changes a user; everybody may change themselves. Only this version, if one is
    /// named: 412 ([`ErrorKind::Stale`]) where there is another. 409 `email_taken`.
    /// [`ErrorKind::ReauthenticationRequired`] where another e-mail address of one's own needs
    /// the current password.
    ///
    /// [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale
    /// [`ErrorKind::ReauthenticationRequired`]: crate::error::ErrorKind::ReauthenticationRequired
    async fn update_user(
        &self,
        user_id: Uuid,
        patch: &UserPatch,
        if_match: Option<&EntityTag>,
    ) -> Result<Versioned<User>, ClientError> {
        let request = of(Method::PATCH, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, json!(patch), patch.current_password.as_ref());
        versioned(&self.send(only(request, if_match)).await?)
    }

    /// Deletes a user with all sessions; everybody may delete themselves. Only this
    /// version, if one is named: 412 ([`ErrorKind::Stale`]) where there is another. 409
    /// `last_admin`. [`ErrorKind::ReauthenticationRequired`] for one's own account more than five
    /// minutes after the login: then use [`AdminClient::delete_own_account`].
    ///
    /// [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale
    /// [`ErrorKind::ReauthenticationRequired`]: crate::error::ErrorKind::ReauthenticationRequired
    async fn delete_user(&self, user_id: Uuid, if_match: Option<&EntityTag>) -> Result<(), ClientError> {
        let request = of(Method::DELETE, "/api/v1/users/{id}", &[user_id]);
        self.send(only(request, if_match)).await.map(|_| ())
    }

    /// Deletes one's own account with all sessions, confirmed by its current password. 401
    /// `invalid_credentials` for a wrong one. Only this version, if one is named, as with
    /// [`AdminClient::delete_user`].
    async fn delete_own_account(
        &self,
        user_id: Uuid,
        current_password: &Secret,
        if_match: Option<&EntityTag>,
    ) -> Result<(), ClientError> {
        let request = of(Method::DELETE, "/api/v1/users/{id}", &[user_id]);
        let request = with_password(request, json!({}), Some(current_password));
        self.send(only(request, if_match)).await.map(|_| ())
    }

    /// Part of the audit log; [`Pages::of_audit`] walks all of it.
    async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.send(query.request()?).await?.json()
    }

    /// Makes a new signing key. Tokens of the old one stay good.
    async fn rotate_keys(&self) -> Result<Rotated, ClientError> {
        self.send(of(Method::POST, "/api/v1/auth/keys/rotate", &[])).await?.json()
    }
}

fn of(method: Method, route: &'static str, ids: &[Uuid]) -> ApiRequest {
    ids.iter().fold(ApiRequest::new(method, route), |request, id| request.with_segment(&id.to_string()))
}

/// A change of an account, confirmed by its current password if there is one. Such a call is
/// not made twice: a wrong password would count twice.
fn with_password(request: ApiRequest, mut body: Value, current_password: Option<&Secret>) -> ApiRequest {
    let Some(current_password) = current_password else { return request.with_json(&body) };
    if let Some(members) = body.as_object_mut() {
        members.insert("current_password".to_owned(), json!(current_password.expose()));
    }
    request.with_json(&body).with_repeat(Repeat::IfUnsent)
}

/// The change to one version, or to whichever there is.
fn only(request: ApiRequest, if_match: Option<&EntityTag>) -> ApiRequest {
    match if_match {
        Some(version) => request.with_if_match(version),
        None => request,
    }
}

/// A user with its version. One without is not taken: a later change that should be bound
/// to it would be bound to nothing.
fn versioned(answer: &ApiAnswer) -> Result<Versioned<User>, ClientError> {
    let version = answer.version().cloned();
    let reason = "no entity tag, by which its version could be named";
    let version = version.ok_or(ClientError::Malformed { status: answer.status(), reason })?;
    Ok(Versioned { value: member(answer, "data")?, version })
}

fn unexpected(answer: &ApiAnswer) -> ClientError {
    ClientError::Malformed { status: answer.status(), reason: "not the JSON that was expected" }
}

/// One member of an answer.
fn member<T: DeserializeOwned>(answer: &ApiAnswer, name: &str) -> Result<T, ClientError> {
    take(&mut answer.json()?, name, answer)?.ok_or_else(|| unexpected(answer))
}

fn take<T: DeserializeOwned>(document: &mut Value, name: &str, answer: &ApiAnswer) -> Result<Option<T>, ClientError> {
    let Some(value) = document.get_mut(name).map(Value::take) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|_| unexpected(answer))
}

fn listed<T: DeserializeOwned>(answer: &ApiAnswer, name: &str) -> Result<Listed<T>, ClientError> {
    let mut document: Value = answer.json()?;
    // One that is there and cannot be read may name a next part: a walk must not take it
    // for the end.
    let pagination = take(&mut document, "pagination", answer)?.unwrap_or_default();
    let entries = take(&mut document, name, answer)?.ok_or_else(|| unexpected(answer))?;
    Ok(Listed { entries, pagination })
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
