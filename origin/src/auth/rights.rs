//! Which roles accounts hold, and the question whether somebody may do something. Both are
//! answered from the database: a token says what was true when it was issued.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Auth, ROLE_ADMIN,
    audit::Notes,
    roles,
    session::{self, Admin},
};
use crate::{
    fields::Check,
    http::{ApiError, Id, Ids, Json, User},
    store::{
        rights::{Change, Refusal},
        roles::Role,
    },
};

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::not_found(),
            Refusal::BuiltIn => Self::conflict("built_in", "What is built in stays as it is"),
            Refusal::Taken => Self::conflict("name_taken", "The name is taken"),
            Refusal::InUse => Self::conflict("in_use", "It is in use; take it away from all that have it first"),
            Refusal::Last => Self::conflict("last_admin", "The last administrator must stay one"),
            Refusal::TooMany => Self::conflict("too_many", "There are as many as there may be"),
            Refusal::Busy => Self::unavailable("account_busy", "The account's tokens were revoked moments ago"),
            Refusal::Failed(error) => error.into(),
        }
    }
}

fn answer(user_id: Uuid, held: &[Role]) -> Answer<Value> {
    let held: Vec<Value> = held.iter().map(roles::document).collect();
    Answer(json!({ "user_id": user_id, "roles": held }))
}

/// What every change leads to beyond its answer.
fn follow(auth: &Auth, admin: Uuid, account: Uuid, change: &Change) {
    if change.taken {
        auth.pusher.wake();
    }
    if change.given || change.taken {
        auth.reconciler.wake();
        let (given, taken) = (change.given, change.taken);
        tracing::info!(user_id = %admin, account_id = %account, given, taken, "an account's roles were changed");
    }
}

/// GET /api/v1/auth/users/{id}/roles.
pub(super) async fn roles(_: Admin, State(auth): State<Auth>, Id(id): Id) -> Result<Answer<Value>, ApiError> {
    let held = auth.rights.roles(id).await?.ok_or(ApiError::not_found())?;
    Ok(answer(id, &held))
}

#[derive(Debug, Deserialize)]
pub(super) struct Given {
    role_id: Option<String>,
}

/// POST /api/v1/auth/users/{id}/roles: 201, or 200 if the account had the role.
pub(super) async fn give(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    notes: Notes,
    Id(id): Id,
    Json(body): Json<Given>,
) -> Result<(StatusCode, Answer<Value>), ApiError> {
    let mut check = Check::default();
    let role = check.id("role_id", body.role_id.as_deref());
    check.done()?;
    notes.about(role);
    let change = auth.rights.give(id, role, &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    let status = if change.given { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, answer(id, &change.roles)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Replacement {
    role_ids: Option<Vec<String>>,
}

/// PUT /api/v1/auth/users/{id}/roles: these and no others.
pub(super) async fn replace(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Id(id): Id,
    Json(body): Json<Replacement>,
) -> Result<Answer<Value>, ApiError> {
    let mut check = Check::default();
    check.required("role_ids", body.role_ids.is_some());
    let wanted: Option<_> = body.role_ids.unwrap_or_default().iter().map(|text| Uuid::parse_str(text).ok()).collect();
    if wanted.is_none() {
        check.complain("role_ids", "must be ids");
    }
    check.done()?;
    let change = auth.rights.replace(id, wanted.unwrap_or_default(), &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    Ok(answer(id, &change.roles))
}

/// DELETE /api/v1/auth/users/{id}/roles/{role_id}.
pub(super) async fn take(
    Admin(admin): Admin,
    State(auth): State<Auth>,
    Ids(id, role): Ids,
) -> Result<StatusCode, ApiError> {
    let change = auth.rights.take(id, role, &auth.clock).await?;
    follow(&auth, admin.id, id, &change);
    Ok(StatusCode::NO_CONTENT)
}

/// Whose rights one may ask for: one's own, and an administrator anybody's.
async fn self_or_admin(auth: &Auth, user: &User, id: Uuid) -> Result<(), ApiError> {
    let account = session::live_account(auth, user).await?;
    if account.id == id || account.has_role(ROLE_ADMIN) { Ok(()) } else { Err(ApiError::forbidden()) }
}

/// GET /api/v1/auth/users/{id}/permissions.
pub(super) async fn permissions(State(auth): State<Auth>, user: User, Id(id): Id) -> Result<Answer<Value>, ApiError> {
    self_or_admin(&auth, &user, id).await?;
    let permissions = auth.rights.permissions(id).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "user_id": id, "permissions": permissions })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Question {
    user_id: Option<String>,
    permission: Option<String>,
}

/// POST /api/v1/auth/permissions/check. A permission that does not exist is not allowed.
pub(super) async fn check(
    State(auth): State<Auth>,
    user: User,
    Json(body): Json<Question>,
) -> Result<Answer<Value>, ApiError> {
    let mut check = Check::default();
    let id = check.id("user_id", body.user_id.as_deref());
    let permission = check.permission("permission", body.permission.as_deref());
    check.done()?;
    self_or_admin(&auth, &user, id).await?;
    let allowed = auth.rights.allows(id, &permission).await?.ok_or(ApiError::not_found())?;
    Ok(Answer(json!({ "allowed": allowed, "user_id": id, "permission": permission })))
}
