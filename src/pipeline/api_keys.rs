//! API keys: finds the record of a key in the store. A key that has ended is refused by the revocation log, within its window.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    denial::Denial, limited_cache::LimitedCache, limits, metrics::Metrics, permits::Lease, ports::RecordStore,
    wire::Fault,
};
use portcullis_token::{self as token, ApiKey, TokenError, TokenPolicy, UnixMillis, VerifiedToken};

/// The API keys of one issuer.
pub(super) struct ApiKeyVerifier {
    pub(super) prefix: String,
    /// Name of the issuer whose service creates and ends keys.
    pub(super) from: String,
    /// What the names of its records begin with.
    place: String,
    /// Why a key was refused, by its digest.
    refused: RefCell<LimitedCache<[u8; 32], TokenError>>,
    /// Why the last record could not be read.
    pub(super) last_error: Cell<Option<&'static str>>,
    /// Name of the issuer.
    issuer: String,
    metrics: Rc<Metrics>,
}

impl ApiKeyVerifier {
    pub(super) fn new(issuer: &str, config: &portcullis_policy::ApiKeys, metrics: &Rc<Metrics>) -> Self {
        Self {
            prefix: config.prefix.clone(),
            from: config.from.clone(),
            place: ["apikeys/1/", issuer, "/"].concat(),
            refused: RefCell::new(LimitedCache::new(limits::REFUSED_API_KEYS)),
            last_error: Cell::default(),
            issuer: issuer.to_owned(),
            metrics: Rc::clone(metrics),
        }
    }

    /// Verifies a text with the prefix. `may_read` refuses a client that has guessed too often.
    ///
    /// # Errors
    /// [`TokenError`], the error of `may_read`, or [`Denial::ApiKeysUnavailable`] if the record cannot be read.
    pub(super) async fn verify(
        &self,
        (text, policy): (&str, &TokenPolicy),
        may_read: impl FnOnce(UnixMillis) -> Result<(), Denial>,
        store: &impl RecordStore,
    ) -> Result<VerifiedToken, Denial> {
        let Some(key) = ApiKey::parse(text, &self.prefix) else {
            self.count("malformed");
            return Err(TokenError::Malformed.into());
        };
        let (digest, now) = (key.hash(), store.now());
        let known = self.refused.borrow().find(&digest, now).copied();
        if let Some(error) = known {
            self.count("refused");
            return Err(error.into());
        }
        may_read(now)?;
        let record = match store.read_record(&self.name_of(&URL_SAFE_NO_PAD.encode(digest))).await {
            Ok(record) => record,
            Err(fault) => return Err(self.fail(code(fault))),
        };
        let verified = match record {
            None => Err(TokenError::Inactive),
            Some(text) => token::admit_api_key(&text, policy, limits::TOKEN_CACHE_MS / 1000, store.now())
                .ok_or_else(|| self.fail("record_unusable"))?,
        };
        self.last_error.set(None);
        self.count(if verified.is_ok() { "active" } else { "refused" });
        verified.map_err(|error| {
            let lease = Lease { since: now, lasts_ms: limits::INACTIVE_MS };
            self.refused.borrow_mut().insert(digest, error, 1, lease);
            error.into()
        })
    }

    /// Returns whether records can be read, for a readiness check.
    pub(super) async fn is_ready(&self, store: &impl RecordStore) -> bool {
        store.read_record(&self.name_of("ready")).await.is_ok()
    }

    pub(super) fn name_of(&self, digest: &str) -> String {
        [&self.place, digest].concat()
    }

    pub(super) fn fail(&self, fault: &'static str) -> Denial {
        self.last_error.set(Some(fault));
        self.count("failed");
        Denial::ApiKeysUnavailable { fault }
    }

    pub(super) fn count(&self, result: &str) {
        let issuer = &self.issuer;
        self.metrics.count(format_args!("gateway_api_keys_total{{issuer=\"{issuer}\",result=\"{result}\"}}"));
    }
}

/// Returns the code of a fault for operators.
pub(super) const fn code(fault: Fault) -> &'static str {
    if matches!(fault, Fault::NotBound) { "store_not_bound" } else { "store_failed" }
}
