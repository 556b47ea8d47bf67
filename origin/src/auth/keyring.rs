//! The signing keys: published before they sign, and until the last token that they signed has
//! expired.
//!
//! The keys are in the database, which every process reads every few seconds, so that a key that
//! one process makes soon reaches all. Which key signs depends on the time alone: all processes
//! change over at the same instant.

use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    clock::{Clock, rfc3339},
    limits,
    signing::{Key, MasterKey, PublicKeys},
    store::{
        SigningKeys,
        keys::{Revocation, Rotated, StoredKey, agree},
        with_timeout,
    },
};

/// The published keys, and the one that signs.
#[derive(Debug)]
pub struct Keyring {
    store: SigningKeys,
    master: MasterKey,
    /// Milliseconds between a key's publication and its first signature.
    lead_ms: i64,
    held: RwLock<Arc<Held>>,
    /// Held from the read of the database to the change of `held`: an older read that finishes last
    /// would restore a revoked key.
    reloading: tokio::sync::Mutex<()>,
}

/// The keys as last read from the database. Never empty.
#[derive(Debug)]
struct Held {
    /// Keys with the time from which each signs (milliseconds since 1970), the latest first.
    keys: Vec<(i64, Arc<Key>)>,
    jwks: KeySet,
    public: Arc<PublicKeys>,
}

/// Public keys (RFC 7517, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeySet {
    /// JWKs, with `kid`, `alg` and `use`.
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<Value>,
}

/// Why the keys cannot be used.
#[derive(Debug)]
pub enum KeyringFault {
    /// The database failed.
    Store(sqlx::Error),
    /// A key cannot be generated or encoded.
    Making,
    /// The master key does not decrypt the keys in the database.
    WrongMasterKey,
    /// The keys in the database were made later than this machine's clock says.
    ClockBehind {
        /// Milliseconds since 1970.
        now: i64,
        /// When the first of them was made, in milliseconds since 1970.
        made_at: i64,
    },
    /// The clocks of this machine and of the database differ.
    ClocksApart,
    /// There is no such key.
    Unknown,
}

impl std::fmt::Display for KeyringFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(_) => formatter.write_str("the signing keys cannot be read from the database"),
            Self::Making => formatter.write_str("a signing key cannot be made"),
            Self::WrongMasterKey => formatter.write_str(
                "MASTER_KEY does not open the signing keys in the database; set the one with which they were made, \
                 as MASTER_KEY_OLD if it is to be replaced",
            ),
            Self::ClockBehind { now, made_at } => write!(
                formatter,
                "this machine's clock says {}, which is before the signing keys in the database were made ({}); set the \
                 clock, or the gateway refuses the tokens that are signed here",
                rfc3339(*now),
                rfc3339(*made_at)
            ),
            Self::ClocksApart => formatter.write_str(
                "the clocks of this machine and of the database differ by more than a minute, so signing keys are \
                 neither rotated nor deleted here; set the clocks",
            ),
            Self::Unknown => formatter.write_str("there is no such signing key; keys list shows all of them"),
        }
    }
}

impl std::error::Error for KeyringFault {}

impl From<sqlx::Error> for KeyringFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

/// Keeps all stored keys in the set: only [`Keyring::maintain`] knows whether the clock may end one.
const ALL: i64 = 0;

impl Keyring {
    /// Decrypts the stored keys, and encrypts those again that an older master key encrypted; makes
    /// the first key when there is none.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn open(store: SigningKeys, master: MasterKey, lead_ms: i64, now: i64) -> Result<Self, KeyringFault> {
        if store.published(now, ALL).await?.is_empty() {
            // The very first key may sign at once: no client caches an older set.
            store.add_first(&make(&master, now, now).await?).await?;
        }
        let stored = store.published(now, ALL).await?;
        if let Some(made_at) = stored.iter().map(|key| key.published_at).min()
            && made_at > now.saturating_add(limits::KEYS_AHEAD_MS)
        {
            return Err(KeyringFault::ClockBehind { now, made_at });
        }
        reseal(&store, &master, &stored, None).await?;
        let held = RwLock::new(Arc::new(Held::from_stored(stored, &master, None)?));
        Ok(Self { store, master, lead_ms, held, reloading: tokio::sync::Mutex::default() })
    }

    /// Returns the key that signs at `now`.
    pub fn signer(&self, now: i64) -> Option<Arc<Key>> {
        let held = self.held();
        let found = held.keys.iter().find(|(signs_from, _)| *signs_from <= now).or_else(|| held.keys.last());
        found.map(|(_, key)| Arc::clone(key))
    }

    /// Returns the published set.
    pub fn jwks(&self) -> KeySet {
        self.held().jwks.clone()
    }

    /// Returns the published set for verifying the service's own tokens.
    pub fn public(&self) -> Arc<PublicKeys> {
        Arc::clone(&self.held().public)
    }

    /// Publishes the next key unless one is published that does not sign yet, and returns the key
    /// that is going to sign and the one before it.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn rotate(&self, clock: &Clock) -> Result<Rotated, KeyringFault> {
        let now = clock.now();
        let next = make(&self.master, now, now.saturating_add(self.lead_ms)).await?;
        let after = limits::ACCESS_TOKEN_MS.saturating_add(limits::LEEWAY_MS);
        let rotated = with_timeout(self.store.add_next(&next, after, clock)).await?;
        let rotated = rotated.ok_or(KeyringFault::ClocksApart)?;
        self.reload_committed(now).await;
        Ok(rotated)
    }

    /// Deletes a key that leaked, and with it all tokens that it signed: here at once, in other
    /// processes when they next read the keys, at the gateway with the next push. Another key signs
    /// at once.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn revoke(&self, kid: &str, now: i64) -> Result<Revocation, KeyringFault> {
        let spare = make(&self.master, now, now).await?;
        let revoked = with_timeout(self.store.revoke(kid, &spare, now)).await?.ok_or(KeyringFault::Unknown)?;
        self.reload_committed(now).await;
        Ok(revoked)
    }

    /// Reads the keys from the database.
    ///
    /// # Errors
    /// [`KeyringFault`]; the keys that were read before stay in use.
    pub async fn read(&self, now: i64) -> Result<(), KeyringFault> {
        self.reload(now, ALL).await
    }

    /// Reads the keys, rotates when the newest is old enough, and deletes those that are no longer
    /// published. To be called every few seconds, with the time if it is
    /// [trusted](crate::clock::ClockWatch). Otherwise, and while the database's clock differs, all keys
    /// stay published: a wrong clock must not end live tokens.
    ///
    /// # Errors
    /// [`KeyringFault`]; the keys that were read before stay in use.
    pub async fn maintain(&self, clock: &Clock, trusted: Option<i64>) -> Result<(), KeyringFault> {
        let shared_now = with_timeout(self.store.shared_now(clock)).await?;
        let agreed = trusted.filter(|now| agree(*now, shared_now));
        self.reload(clock.now(), agreed.unwrap_or(ALL)).await?;
        let Some(now) = agreed else {
            return if trusted.is_some() { Err(KeyringFault::ClocksApart) } else { Ok(()) };
        };
        let newest = self.held().keys.first().map_or(now, |(signs_from, _)| *signs_from);
        // A next key that waits for longer than the lead was made by a clock that was ahead.
        let is_far_ahead = newest.saturating_sub(now) > self.lead_ms.saturating_add(limits::KEYS_AHEAD_MS);
        if is_far_ahead || now.saturating_sub(newest) >= limits::SIGNING_KEY_MS.saturating_sub(self.lead_ms) {
            let rotated = self.rotate(clock).await?;
            tracing::info!(kid = rotated.kid, previous_kid = rotated.previous_kid, "a new signing key is published");
        }
        // With a margin, because this clock may be ahead.
        with_timeout(self.store.forget(now.saturating_sub(limits::SWEEP_MARGIN_MS))).await?;
        Ok(())
    }

    /// Reads the keys after a change that is committed: an error of this read must not make the change
    /// look failed. [`Self::maintain`] reads them again within seconds.
    async fn reload_committed(&self, now: i64) {
        if let Err(fault) = self.reload(now, ALL).await {
            tracing::error!(%fault, "the signing keys are changed, but this process cannot read them");
        }
    }

    async fn reload(&self, now: i64, past: i64) -> Result<(), KeyringFault> {
        let _reloading = self.reloading.lock().await;
        let stored = with_timeout(self.store.published(now, past)).await?;
        let before = self.held();
        // A process that has the older master key alone may have made one since.
        reseal(&self.store, &self.master, &stored, Some(&before)).await?;
        let held = Held::from_stored(stored, &self.master, Some(&before))?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
        Ok(())
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    fn from_stored(stored: Vec<StoredKey>, master: &MasterKey, before: Option<&Self>) -> Result<Self, KeyringFault> {
        let known = |kid: &str| {
            let keys = before.map(|held| held.keys.as_slice()).unwrap_or_default();
            keys.iter().find(|(_, key)| key.kid() == kid).map(|(_, key)| Arc::clone(key))
        };
        let mut keys = Vec::new();
        let mut published = Vec::new();
        for row in stored {
            let key = match known(&row.kid) {
                Some(key) => key,
                None => {
                    let der = master.open(&row.kid, &row.private_sealed).map_err(|_| KeyringFault::WrongMasterKey)?;
                    Arc::new(Key::from_pkcs8(&der).map_err(|_| KeyringFault::WrongMasterKey)?)
                }
            };
            published.push(key.to_jwk());
            keys.push((row.signs_from, key));
        }
        if keys.is_empty() {
            return Err(KeyringFault::Making);
        }
        keys.sort_by_key(|(signs_from, _)| std::cmp::Reverse(*signs_from));
        let public = Arc::new(PublicKeys::from_jwks(&json!({ "keys": published })));
        Ok(Self { keys, public, jwks: KeySet { keys: published } })
    }
}

/// Encrypts keys again that the older master key encrypted, so that it can be discarded. Keys in
/// `held` were checked before.
async fn reseal(
    store: &SigningKeys,
    master: &MasterKey,
    stored: &[StoredKey],
    held: Option<&Held>,
) -> Result<(), KeyringFault> {
    for row in stored {
        if held.is_some_and(|held| held.keys.iter().any(|(_, key)| key.kid() == row.kid)) {
            continue;
        }
        let resealed = master.reseal(&row.kid, &row.private_sealed).map_err(|_| KeyringFault::WrongMasterKey)?;
        if let Some(sealed) = resealed {
            with_timeout(store.reseal(&row.kid, &row.private_sealed, &sealed)).await?;
            tracing::info!(kid = row.kid, "a signing key is encrypted with MASTER_KEY instead of MASTER_KEY_OLD");
        }
    }
    Ok(())
}

async fn make(master: &MasterKey, now: i64, signs_from: i64) -> Result<StoredKey, KeyringFault> {
    let key = tokio::task::spawn_blocking(Key::generate)
        .await
        .map_err(|_| KeyringFault::Making)?
        .map_err(|_| KeyringFault::Making)?;
    let der = key.to_pkcs8().map_err(|_| KeyringFault::Making)?;
    Ok(StoredKey {
        kid: key.kid().to_owned(),
        public_jwk: key.to_jwk().to_string(),
        private_sealed: master.seal(key.kid(), &der).map_err(|_| KeyringFault::Making)?,
        published_at: now,
        signs_from,
        published_until: None,
    })
}
