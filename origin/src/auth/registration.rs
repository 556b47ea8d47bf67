//! Making an account with its profile. The two services have a database each, so this is a saga:
//! whatever fails on the way leaves no half of a user.

use portcullis_client::{
    internal::CallError,
    profile::{ProfileChange, ProfileFields},
    secret::Secret,
};

use super::{Auth, hash_queue::Priority, password_check::PasswordCheck, tokens};
use crate::{
    fields::Check,
    http::ApiError,
    profile,
    store::{
        UserRecord,
        accounts::{AccountError, NewAccount},
        registrations::Key,
    },
};

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::EmailTaken => Self::email_taken(),
            AccountError::UnknownRole => Self::unknown_role(),
            AccountError::Database(error) => error.into(),
        }
    }
}

/// The fields of a registration, in normal form.
#[derive(Debug, Clone)]
pub(super) struct Registration {
    email: String,
    password: Secret,
    profile: ProfileFields,
}

impl Registration {
    /// Checks the fields.
    ///
    /// # Errors
    /// 422 with all that is wrong.
    pub(super) fn check(
        email: Option<&str>,
        password: Option<&Secret>,
        profile: &ProfileChange,
    ) -> Result<Self, ApiError> {
        let mut check = Check::default();
        let registration = Self {
            email: check.email(email),
            password: check.password(password),
            profile: profile::apply(check.profile(profile), &ProfileFields::default()),
        };
        check.done()?;
        Ok(registration)
    }

    /// Makes the account.
    ///
    /// The account is written as pending, the user service stores the profile, and then the account
    /// becomes active. A failure leaves a pending account: it cannot log in, the next attempt takes
    /// it over, and [`profile_delivery`](super::profile_delivery) undoes it when there is none.
    ///
    /// With a `key` (`Idempotency-Key`), a repeated registration returns the account that the first
    /// one made.
    ///
    /// # Errors
    /// 409 when the address is taken; 422 for an unknown role, or when the key belongs to another
    /// registration; 429 and 503.
    pub(super) async fn make(
        &self,
        auth: &Auth,
        roles: &[String],
        key: Option<Key>,
        priority: Priority,
    ) -> Result<UserRecord, ApiError> {
        let password_hash = auth.passwords.hash(&self.password, priority).await?;
        let attempt = tokens::fresh_id(auth)?;
        let new = NewAccount {
            id: tokens::fresh_id(auth)?,
            email: &self.email,
            password_hash: &password_hash,
            profile: &self.profile,
            roles,
            attempt,
            registered_by: key,
            now: auth.clock.now(),
        };
        let begun = match auth.accounts.create_pending(&new).await {
            Err(AccountError::EmailTaken) => return self.repeated(auth, key).await,
            begun => begun?,
        };
        let account = begun.account(&new);
        auth.users.put_profile(&account).await.map_err(unavailable)?;
        if auth.accounts.activate(begun, attempt).await? {
            return Ok(account);
        }
        if let Some(key) = key {
            auth.accounts.activate_twin(begun.id, key).await?;
        }
        self.repeated(auth, key).await
    }

    /// Returns the account that an earlier registration with this key made, if all fields are the
    /// same. The client sends a registration again when the first answer was lost or is on its way.
    ///
    /// The password decides, with the throttle of a login: a key may be known to others or be easy
    /// to guess.
    async fn repeated(&self, auth: &Auth, key: Option<Key>) -> Result<UserRecord, ApiError> {
        let Some(key) = key else { return Err(ApiError::email_taken()) };
        let made = auth.accounts.registered_by(&self.email, key, auth.clock.now()).await?;
        let (id, hash) = made.ok_or(ApiError::email_taken())?;
        let account = auth.accounts.find(id).await?.ok_or(ApiError::email_taken())?;
        let check = PasswordCheck { email: &self.email, account: Some((id, &hash)), address: None, has_session: false };
        if account.profile == self.profile && check.is_right(auth, &self.password).await? {
            Ok(account)
        } else {
            Err(ApiError::key_reused())
        }
    }
}

fn unavailable(error: CallError) -> ApiError {
    tracing::error!(%error, what = "the profile cannot be made", "the user service failed");
    ApiError::unavailable("user_service_unavailable", "User service unavailable")
}
