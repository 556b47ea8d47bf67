//! The signing keys: made, published before they sign, and published still until the
//! last token that they signed has expired.
//!
//! The database has them, and every process reads it anew every few seconds: a key
//! that one of them makes is soon every one's. Which key signs is a matter of the time
//! alone, so all of them change over at one instant.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use crate::{
    clock::rfc3339,
    limits,
    signing::{Key, MasterKey, PublicKeys},
    store::{
        SigningKeys,
        keys::{Revocation, Rotated, StoredKey},
        with_timeout,
    },
};

/// The keys that are published, and the one that signs.
#[derive(Debug)]
pub struct Keyring {
    store: SigningKeys,
    master: MasterKey,
    /// Milliseconds between a key's publication and its first signature.
    lead_ms: i64,
    held: RwLock<Arc<Held>>,
}

/// What was last read of the database. Never empty.
#[derive(Debug)]
struct Held {
    /// With the instant from which each signs, the latest first.
    keys: Vec<(i64, Arc<Key>)>,
    jwks: Value,
    public: Arc<PublicKeys>,
}

/// Why there is no key to sign with.
#[derive(Debug)]
pub enum KeyringFault {
    /// The database failed.
    Store(sqlx::Error),
    /// A key could not be made or written down.
    Making,
    /// The master key does not open the keys in the database.
    WrongMasterKey,
    /// The keys in the database were made at an instant to which our clock has yet to come.
    ClockBehind {
        /// Milliseconds since 1970.
        now: i64,
        /// When the first of them was made.
        made_at: i64,
    },
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
                 clock, or nobody takes the tokens that are signed here",
                rfc3339(*now),
                rfc3339(*made_at)
            ),
            Self::Unknown => formatter.write_str("there is no such signing key; keys list shows those that there are"),
        }
    }
}

impl std::error::Error for KeyringFault {}

impl From<sqlx::Error> for KeyringFault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error)
    }
}

impl Keyring {
    /// Opens the stored keys, and seals those anew that an older master key sealed; makes
    /// the first one when there is none.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn open(store: SigningKeys, master: MasterKey, lead_ms: i64, now: i64) -> Result<Self, KeyringFault> {
        if store.published(now).await?.is_empty() {
            // The very first may sign at once: nobody holds an older set.
            store.add_first(&make(&master, now, now).await?).await?;
        }
        let stored = store.published(now).await?;
        if let Some(made_at) = stored.iter().map(|key| key.published_at).min()
            && made_at > now.saturating_add(limits::KEYS_AHEAD_MS)
        {
            return Err(KeyringFault::ClockBehind { now, made_at });
        }
        reseal(&store, &master, &stored, None).await?;
        let held = RwLock::new(Arc::new(Held::from_stored(stored, &master, None)?));
        Ok(Self { store, master, lead_ms, held })
    }

    /// The key that signs at `now`.
    pub fn signer(&self, now: i64) -> Option<Arc<Key>> {
        let held = self.held();
        let found = held.keys.iter().find(|(signs_from, _)| *signs_from <= now).or_else(|| held.keys.last());
        found.map(|(_, key)| Arc::clone(key))
    }

    /// The published set (RFC 7517).
    pub fn jwks(&self) -> Value {
        self.held().jwks.clone()
    }

    /// The published set, for checking our own tokens.
    pub fn public(&self) -> Arc<PublicKeys> {
        Arc::clone(&self.held().public)
    }

    /// Publishes the next key, unless one waits for its turn already, and says which
    /// key is going to sign and which did before.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn rotate(&self, now: i64) -> Result<Rotated, KeyringFault> {
        let next = make(&self.master, now, now.saturating_add(self.lead_ms)).await?;
        let after = limits::ACCESS_TOKEN_MS.saturating_add(limits::LEEWAY_MS);
        let rotated = with_timeout(self.store.add_next(&next, after)).await?;
        self.reload(now).await?;
        Ok(rotated)
    }

    /// Deletes a key that leaked. No token that it signed is good any more: here at once, at
    /// other processes when they next read the keys, at the gateway when it is told. Another
    /// key signs at once.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn revoke(&self, kid: &str, now: i64) -> Result<Revocation, KeyringFault> {
        let spare = make(&self.master, now, now).await?;
        let revoked = with_timeout(self.store.revoke(kid, &spare, now)).await?.ok_or(KeyringFault::Unknown)?;
        self.reload(now).await?;
        Ok(revoked)
    }

    /// Reads what other processes did.
    ///
    /// # Errors
    /// [`KeyringFault`]; what is held stays.
    pub async fn read(&self, now: i64) -> Result<(), KeyringFault> {
        self.reload(now).await
    }

    /// Reads what other processes did, rotates when the key has its age, and forgets
    /// what nobody needs any more. To be called every few seconds.
    ///
    /// # Errors
    /// [`KeyringFault`]; what is held stays.
    pub async fn maintain(&self, now: i64) -> Result<(), KeyringFault> {
        self.reload(now).await?;
        let newest = self.held().keys.first().map_or(now, |(signs_from, _)| *signs_from);
        if now.saturating_sub(newest) >= limits::SIGNING_KEY_MS.saturating_sub(self.lead_ms) {
            let rotated = self.rotate(now).await?;
            tracing::info!(kid = rotated.kid, previous_kid = rotated.previous_kid, "a new signing key is published");
        }
        // Later than nobody needs them: a clock may be ahead for a while.
        with_timeout(self.store.forget(now.saturating_sub(limits::SWEEP_MARGIN_MS))).await?;
        Ok(())
    }

    async fn reload(&self, now: i64) -> Result<(), KeyringFault> {
        let stored = with_timeout(self.store.published(now)).await?;
        let before = self.held();
        // What a process that knows the older master key alone made since.
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
        let jwks = json!({ "keys": published });
        Ok(Self { keys, public: Arc::new(PublicKeys::from_jwks(&jwks)), jwks })
    }
}

/// Seals keys anew that the older master key sealed, so that it can be thrown away. Those
/// that are held were looked at.
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
        let anew = master.reseal(&row.kid, &row.private_sealed).map_err(|_| KeyringFault::WrongMasterKey)?;
        if let Some(sealed) = anew {
            with_timeout(store.reseal(&row.kid, &row.private_sealed, &sealed)).await?;
            tracing::info!(kid = row.kid, "a signing key is sealed by MASTER_KEY now and by MASTER_KEY_OLD no more");
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
