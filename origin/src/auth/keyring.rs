//! The signing keys of this process: read and opened once, the first made at
//! the first start.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    signing::{Key, MasterKey, PublicKeys},
    store::{SigningKeys, sqlite::keys::StoredKey},
};

/// The keys that are published, and the one that signs.
#[derive(Debug)]
pub struct Keyring {
    active: Arc<Key>,
    jwks: Value,
    public: PublicKeys,
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
}

impl std::fmt::Display for KeyringFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(_) => formatter.write_str("the signing keys cannot be read from the database"),
            Self::Making => formatter.write_str("a signing key cannot be made"),
            Self::WrongMasterKey => formatter.write_str(
                "MASTER_KEY does not open the signing keys in the database; set the one with which they were made",
            ),
        }
    }
}

impl std::error::Error for KeyringFault {}

impl Keyring {
    /// Opens the stored keys; makes the first one when there is none.
    ///
    /// # Errors
    /// [`KeyringFault`].
    pub async fn open(store: &SigningKeys, master: &MasterKey, now: i64) -> Result<Self, KeyringFault> {
        let mut stored = store.published(now).await.map_err(KeyringFault::Store)?;
        if stored.is_empty() {
            let first = make(master, now).await?;
            store.add_first(&first).await.map_err(KeyringFault::Store)?;
            stored = store.published(now).await.map_err(KeyringFault::Store)?;
        }
        // The store lists the one that signs first.
        let signing = stored.first().ok_or(KeyringFault::Making)?;
        let der = master.open(&signing.kid, &signing.private_sealed).map_err(|_| KeyringFault::WrongMasterKey)?;
        let active = Key::from_pkcs8(&der).map_err(|_| KeyringFault::WrongMasterKey)?;
        let keys: Vec<Value> = stored.iter().filter_map(|key| serde_json::from_str(&key.public_jwk).ok()).collect();
        let jwks = json!({ "keys": keys });
        Ok(Self { active: Arc::new(active), public: PublicKeys::from_jwks(&jwks), jwks })
    }

    /// The key that signs.
    pub fn active(&self) -> &Arc<Key> {
        &self.active
    }

    /// The published set (RFC 7517).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The published set, for checking our own tokens.
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }
}

async fn make(master: &MasterKey, now: i64) -> Result<StoredKey, KeyringFault> {
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
        // The very first may sign at once: nobody holds an older set.
        signs_from: now,
    })
}
