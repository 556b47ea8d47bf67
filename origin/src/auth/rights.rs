//! Which roles accounts hold, and the question whether somebody may do something. Both are
//! answered from the database: a token says what was true when it was issued.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Auth, ROLE_ADMIN,
    audit::Notes,
    roles::Role,
    session::{self, Admin},
};
use crate::{
    fields::{Check, described::PermissionName},
    http::{ApiError, Id, Ids, Json, User, openapi::refuses},
    store::{access::AccessError, account_roles::RoleChange, roles as stored},
};

impl From<AccessError> for ApiError {
    fn from(refusal: AccessError) -> Self {
        match refusal {
            AccessError::NotFound => Self::not_found(),
            AccessError::BuiltIn => Self::conflict("built_in", "What is built in stays as it is"),
            AccessError::NameTaken => Self::conflict("name_taken", "The name is taken"),
            AccessError::InUse => Self::conflict("in_use", "It is in use; take it away from all that have it first"),
            AccessError::LastAdministrator => Self::conflict("last_admin", "The last administrator must stay one"),
            AccessError::TooMany => Self::conflict("too_many", "There are as many as there may be"),
            AccessError::Busy => Self::unavailable("account_busy", "The account's tokens were revoked moments ago"),
            AccessError::Database(error) => error.into(),
        }
    }
}

/// The roles of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldRoles {
    user_id: Uuid,
    roles: Vec<Role>,
}

impl HeldRoles {
    fn new(user_id: Uuid, held: Vec<stored::Role>) -> Answer<Self> {
        Answer(Self { user_id, roles: held.into_iter().map(Role::from).collect() })
    }
}

/// What every change leads to beyond its answer.
fn follow(auth: &Auth, admin: Uuid, account: Uuid, change: &RoleChange) {
    if change.removed {
        auth.pusher.wake();
    }
    if change.added || change.removed {
        auth.reconciler.wake();
        let (given, taken) = (change.added, change.removed);
        tracing::info!(user_id = %admin, account_id = %account, given, taken, "an account's roles were changed");
    }
}

/// Lists the roles of an account.
#[utoipa::path(
    get,
    path = "/api/v1/auth/users/{id}/roles",
    operation_id = "listUserRoles",
    tag = "Rights",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The account.")),
    responses(
        (status = 200, description = "As they are now.", body = HeldRoles),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing
    )
)]
pub(super) async fn roles(_: Admin, State(auth): State<Auth>, Id(id): Id) -> Result<Answer<HeldRoles>, ApiError> {
    let held = auth.account_roles.roles(id).await?.ok_or(ApiError::not_found())?;
    Ok(HeldRoles::new(id, held))
}

/// What an account is given.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GivenRole)]
pub(super) struct Given {
    #[schema(required = true, nullable = false, value_type = Uuid)]
    role_id: Option<String>,
}

/// Gives an account a role.
///
/// Its tokens carry it from the next refresh on.
#[utoipa::path(
    post,
    path = "/api/v1/auth/users/{id}/roles",
    operation_id = "giveRole",
    tag = "Rights",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The account.")),
    request_body = Given,
    responses(
        (status = 201, description = "All that it has.", body = HeldRoles),
        (status = 200, description = "All that it has; the role was among them.", body = HeldRoles),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn give(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    notes: Notes,
    Id(id): Id,
    Json(body): Json<Given>,
) -> Result<(StatusCode, Answer<HeldRoles>), ApiError> {
    let mut check = Check::default();
    let role = check.id("role_id", body.role_id.as_deref());
    check.done()?;
    notes.about(role);
    let change = auth.account_roles.add(id, role, &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    let status = if change.added { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, HeldRoles::new(id, change.roles)))
}

/// The roles that an account is to have: these and no others.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RoleIds)]
pub(super) struct Replacement {
    #[schema(required = true, nullable = false, value_type = Vec<Uuid>)]
    role_ids: Option<Vec<String>>,
}

/// Replaces the roles of an account.
///
/// If one is taken, the account's tokens are revoked.
#[utoipa::path(
    put,
    path = "/api/v1/auth/users/{id}/roles",
    operation_id = "replaceUserRoles",
    tag = "Rights",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The account.")),
    request_body = Replacement,
    responses(
        (status = 200, description = "All that it has.", body = HeldRoles),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Body, refuses::Conflict
    )
)]
pub(super) async fn replace(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<Replacement>,
) -> Result<Answer<HeldRoles>, ApiError> {
    let mut check = Check::default();
    check.required("role_ids", body.role_ids.is_some());
    let wanted: Option<_> = body.role_ids.unwrap_or_default().iter().map(|text| Uuid::parse_str(text).ok()).collect();
    if wanted.is_none() {
        check.reject("role_ids", "must be ids");
    }
    check.done()?;
    let change = auth.account_roles.replace(id, wanted.unwrap_or_default(), &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    Ok(HeldRoles::new(id, change.roles))
}

/// Takes a role from an account.
///
/// Its tokens are revoked.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/users/{id}/roles/{role_id}",
    operation_id = "takeRole",
    tag = "Rights",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The account."), ("role_id" = Uuid, Path, description = "The role.")),
    responses(
        (status = 204, description = "It is taken."),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Conflict
    )
)]
pub(super) async fn take(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Ids(id, role): Ids,
) -> Result<StatusCode, ApiError> {
    let change = auth.account_roles.remove(id, role, &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    Ok(StatusCode::NO_CONTENT)
}

/// Whose rights one may ask for: one's own, and an administrator anybody's.
async fn self_or_admin(auth: &Auth, user: &User, id: Uuid) -> Result<(), ApiError> {
    let account = session::live_account(auth, user).await?;
    if account.id == id || account.has_role(ROLE_ADMIN) { Ok(()) } else { Err(ApiError::forbidden()) }
}

/// The names of what an account may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldPermissions {
    user_id: Uuid,
    #[schema(example = json!(["read:profile"]))]
    permissions: Vec<String>,
}

/// Lists what an account may do: one's own, or for administrators anybody's.
#[utoipa::path(
    get,
    path = "/api/v1/auth/users/{id}/permissions",
    operation_id = "listUserPermissions",
    tag = "Rights",
    security(("accessToken" = [])),
    params(("id" = Uuid, Path, description = "The account.")),
    responses(
        (status = 200, description = "By all its roles together.", body = HeldPermissions),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing
    )
)]
pub(super) async fn permissions(
    State(auth): State<Auth>,
    user: User,
    Id(id): Id,
) -> Result<Answer<HeldPermissions>, ApiError> {
    self_or_admin(&auth, &user, id).await?;
    let permissions = auth.account_roles.permissions(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(HeldPermissions { user_id: id, permissions }))
}

/// Whether somebody may do something.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Question {
    #[schema(required = true, nullable = false, value_type = Uuid)]
    user_id: Option<String>,
    #[schema(required = true, nullable = false, value_type = PermissionName)]
    permission: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub(super) struct Reply {
    allowed: bool,
    user_id: Uuid,
    #[schema(example = "read:profile")]
    permission: String,
}

/// Asks whether an account may do something: one's own, or for administrators anybody's.
///
/// A permission that there is not is not allowed.
#[utoipa::path(
    post,
    path = "/api/v1/auth/permissions/check",
    operation_id = "checkPermission",
    tag = "Rights",
    security(("accessToken" = [])),
    request_body = Question,
    responses(
        (status = 200, description = "As it is now.", body = Reply),
        refuses::Always, refuses::Credentials, refuses::Rights, refuses::Missing, refuses::Body
    )
)]
pub(super) async fn check(
    State(auth): State<Auth>,
    user: User,
    Json(body): Json<Question>,
) -> Result<Answer<Reply>, ApiError> {
    let mut check = Check::default();
    let id = check.id("user_id", body.user_id.as_deref());
    let permission = check.permission("permission", body.permission.as_deref());
    check.done()?;
    self_or_admin(&auth, &user, id).await?;
    let allowed = auth.account_roles.allows(id, &permission).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(Reply { allowed, user_id: id, permission }))
}
