//! Administrators that no administrator makes: by the command line, and the first one from the
//! environment.

use portcullis_client::{
    profile::{ProfileChange, ProfileFields},
    secret::Secret,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Auth, Passwords, ROLE_ADMIN, ROLE_USER, audit_log, hash_queue::Priority, registration::Registration};
use crate::{
    clock::Clock,
    fields::{Check, normal_email},
    http::ApiError,
    ids, limits,
    store::{Accounts, Database, Profiles, UserRecord, accounts::NewAccount, with_timeout},
};

/// Roles of a new administrator.
fn admin_roles() -> Vec<String> {
    vec![ROLE_ADMIN.to_owned(), ROLE_USER.to_owned()]
}

/// What [`create_admin`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// Made a new account.
    New(Uuid),
    /// Made the existing account with the address an administrator.
    Promoted(Uuid),
}

/// What [`create_admin`] is to do.
#[derive(Debug, Clone, Copy)]
pub enum AdminWish<'a> {
    /// Make an account with this password.
    Make(&'a Secret),
    /// Promote the existing account. With a password, the account gets it and loses its sessions;
    /// without one, both stay.
    Promote(Option<&'a Secret>),
}

/// Makes an administrator directly in both databases.
///
/// # Errors
/// A sentence for the operator.
pub async fn create_admin(
    auth: Database,
    users: Database,
    email: &str,
    wish: AdminWish<'_>,
    clock: &Clock,
) -> Result<Created, String> {
    let email = normal_email(email).ok_or("the e-mail address is not valid")?;
    let databases = Databases { accounts: Accounts(auth), profiles: Profiles(users), clock };
    match wish {
        AdminWish::Make(password) => {
            check_password(password)?;
            databases.make(&email, password).await
        }
        AdminWish::Promote(password) => {
            password.map(check_password).transpose()?;
            databases.promote(&email, password).await
        }
    }
}

fn check_password(password: &Secret) -> Result<(), String> {
    let mut check = Check::default();
    check.password(Some(password));
    check.done().map_err(|_| "the password must have 8 to 128 characters".to_owned())
}

/// Both databases, for [`create_admin`].
struct Databases<'a> {
    accounts: Accounts,
    profiles: Profiles,
    clock: &'a Clock,
}

impl Databases<'_> {
    async fn find(&self, email: &str) -> Result<Option<UserRecord>, String> {
        Ok(self.accounts.find_login(email).await.map_err(unwritable)?.map(|(account, _)| account))
    }

    async fn make(&self, email: &str, password: &Secret) -> Result<Created, String> {
        if self.find(email).await?.is_some() {
            // Anyone may have registered the address and chosen the password.
            return Err("an account with this address exists already; --promote makes it an administrator with the \
                        password that you give, and ends its sessions"
                .to_owned());
        }
        let password_hash = hash(password).await?;
        let fresh = || ids::fresh(self.clock.now()).ok_or("no random bytes");
        let attempt = fresh()?;
        let new = NewAccount {
            id: fresh()?,
            email,
            password_hash: &password_hash,
            profile: &ProfileFields::default(),
            roles: &admin_roles(),
            attempt,
            registered_by: None,
            now: self.clock.now(),
        };
        let begun = self.accounts.create_pending(&new).await.map_err(|_| "the account cannot be written")?;
        self.profiles.put(&begun.account(&new)).await.map_err(unwritable)?;
        if !self.accounts.activate(begun, attempt).await.map_err(unwritable)? {
            return Err("the address was registered at the same moment; try again".to_owned());
        }
        Ok(Created::New(begun.id))
    }

    async fn promote(&self, email: &str, password: Option<&Secret>) -> Result<Created, String> {
        let Some(UserRecord { id, .. }) = self.find(email).await? else {
            return Err("there is no account with this address to promote; without --promote one is made".to_owned());
        };
        let hash = match password {
            Some(password) => Some(hash(password).await?),
            None => None,
        };
        if !self.accounts.promote(id, ROLE_ADMIN, hash.as_deref(), self.clock).await.map_err(unwritable)? {
            return Err("the account's sessions were ended moments ago; try again in a minute".to_owned());
        }
        let account = self.accounts.find(id).await.map_err(unwritable)?.ok_or("the account vanished")?;
        // If this fails, the service copies the role to the profile later.
        self.profiles.put(&account).await.map_err(unwritable)?;
        Ok(Created::Promoted(id))
    }
}

fn unwritable(_: sqlx::Error) -> String {
    "the database cannot be written".to_owned()
}

async fn hash(password: &Secret) -> Result<String, String> {
    let passwords = Passwords::new().await.map_err(|_| "passwords cannot be hashed")?;
    passwords.hash(password, Priority::Known).await.map_err(|_| "passwords cannot be hashed".to_owned())
}

/// The first administrator (`ADMIN_EMAIL`).
#[derive(Debug, Clone)]
pub struct FirstAdmin {
    /// Normalised e-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
}

/// Makes the first administrator unless there is an administrator. Ends when there is one, when the
/// address belongs to another account, or when `stopped` turns true.
///
/// The account is made like all others, with the user service, which may still be starting: it is
/// tried until it succeeds. An existing account with the address is not promoted, because anyone
/// may have registered it.
pub async fn make_first_admin(auth: Auth, first: FirstAdmin, mut stopped: watch::Receiver<bool>) {
    let mut is_logged = false;
    loop {
        let outcome = tokio::select! {
            outcome = try_once(&auth, &first) => outcome,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Err(refusal) = outcome else { return };
        if !is_logged {
            is_logged = true;
            tracing::warn!(code = refusal.code(), "the first administrator cannot be made yet; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(limits::FIRST_ADMIN_PAUSE) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn try_once(auth: &Auth, first: &FirstAdmin) -> Result<(), ApiError> {
    if with_timeout(auth.accounts.has_holder(ROLE_ADMIN)).await? {
        tracing::info!("there is an administrator; ADMIN_EMAIL is not used");
        return Ok(());
    }
    if with_timeout(auth.accounts.find_login(&first.email)).await?.is_some() {
        tracing::error!(
            "ADMIN_EMAIL is an account that is not an administrator; make it one with: admin create --promote"
        );
        return Ok(());
    }
    let registration = Registration::check(Some(&first.email), Some(&first.password), &ProfileChange::default())?;
    let roles = admin_roles();
    let made = tokio::time::timeout(limits::REQUEST_TIME, registration.make(auth, &roles, None, Priority::Known)).await;
    let account = made
        .unwrap_or_else(|_| Err(ApiError::unavailable("store_unavailable", "The service cannot reach its database")))?;
    let done = Ok(Some(account.id.to_string()));
    audit_log::record_command(&auth.audit, "admin.create", "serve", done, &auth.clock).await;
    tracing::info!(user_id = %account.id, "made the first administrator");
    Ok(())
}
