//! A registration that is sent again with its `Idempotency-Key`, because the first answer
//! was lost or has yet to come: it gets the account that was made, if all of it is the same.

use portcullis_client::secret::Secret;

use super::{
    Auth,
    attempt::{self, Attempt},
};
use crate::{
    http::ApiError,
    store::{accounts::Account, registrations::Key},
};

/// What was asked for, in normal form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) email: &'a str,
    pub(super) password: &'a Secret,
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
}

/// The account that an earlier request with this key made.
///
/// The password decides, and is guessed no faster here than anywhere: keys may be known to
/// others, or too simple.
///
/// # Errors
/// 409 without a key, or when the address is another registration's; 422 when the key's was
/// for something else; what a wrong password costs.
pub(super) async fn answer(auth: &Auth, key: Option<Key>, asked: &Asked<'_>) -> Result<Account, ApiError> {
    let Some(key) = key else { return Err(ApiError::email_taken()) };
    let made = auth.accounts.registered_by(asked.email, key, auth.clock.now()).await?;
    let (id, hash) = made.ok_or(ApiError::email_taken())?;
    let account = auth.accounts.find(id).await?.ok_or(ApiError::email_taken())?;
    let attempt = Attempt { email: asked.email, account: Some((id, &hash)), address: None, has_session: false };
    if (account.first_name.as_str(), account.last_name.as_str()) == (asked.first_name, asked.last_name)
        && attempt::is_right(auth, &attempt, asked.password).await?
    {
        Ok(account)
    } else {
        Err(ApiError::key_reused())
    }
}
