//! API keys: finds the record of a key in the store, and writes what a push creates and ends.
//!
//! A key that has ended is refused by the revocation log, within its window. The store is eventually consistent, so its
//! record decides nothing by itself: it lasts longer than the log's entry takes to reach every isolate, and a creation that
//! arrives late is compared with the log.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    answer::Answer,
    denial::Denial,
    exchange::Exchange,
    gateway::Gateway,
    issuer::Issuer,
    limited_cache::LimitedCache,
    limits,
    log::Received,
    metrics::Metrics,
    permits::Lease,
    ports::{Ports, Record, RecordStore},
    wire::Fault,
};
use portcullis_policy::Refusal;
use portcullis_token::{
    self as token, ApiKey, ApiKeyChange, ENDED_RECORD, TokenError, TokenPolicy, UnixMillis, VerifiedToken,
    limits::{API_KEY_END_S, API_KEY_EXPIRED_S, API_KEYS_BYTES, DATE_SECS},
    object,
    revocation::{RevocationEntry, RevocationKey, RevocationKind},
};

/// The API keys of one issuer.
pub(super) struct ApiKeyVerifier {
    pub(super) prefix: String,
    /// Name of the issuer whose service creates and ends keys.
    from: String,
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

    fn name_of(&self, digest: &str) -> String {
        [&self.place, digest].concat()
    }

    fn fail(&self, fault: &'static str) -> Denial {
        self.last_error.set(Some(fault));
        self.count("failed");
        Denial::ApiKeysUnavailable { fault }
    }

    fn count(&self, result: &str) {
        let issuer = &self.issuer;
        self.metrics.count(format_args!("gateway_api_keys_total{{issuer=\"{issuer}\",result=\"{result}\"}}"));
    }
}

impl Gateway {
    /// A push of API keys. Everything is durable before the answer; otherwise the pusher repeats it, which changes nothing.
    pub(super) async fn answer_api_keys<P: Ports>(
        &self,
        exchange: &mut Exchange<'_>,
        ports: &P,
    ) -> Result<Answer, Denial> {
        let event_type = "gateway.api_keys";
        exchange.received = Some(Received { event_type, result: None });
        let pusher = self.verify_pusher(exchange, ports).await?;
        let body = ports.read_body(API_KEYS_BYTES).await.map_err(Denial::of_body)?;
        let malformed = |detail| Denial::ApiKeysMalformed { detail };
        let push = token::parse_api_key_push(&body).map_err(malformed)?;
        let mut issuers = self.authenticator.issuers.iter();
        let found = issuers.find_map(|issuer| {
            Some((issuer, issuer.api_keys.as_ref()?)).filter(|_| issuer.token.issuer == push.issuer)
        });
        // As without API keys: the pusher must not take its items for malformed, because the policy may know the issuer soon.
        let (issuer, keys) = found.ok_or(Refusal::RouteUnknown)?;
        if keys.from != pusher.issuer.name {
            return Err(Refusal::PermissionMissing { scopes: String::new() }.into());
        }
        let stored = self.store_api_keys((issuer, keys), &push.changes, ports).await;
        keys.count(if stored.is_ok() { "pushed" } else { "not_pushed" });
        stored?;
        exchange.received = Some(Received { event_type, result: Some("stored") });
        let ended = push.changes.iter().filter(|change| change.record.is_none()).count();
        let created = push.changes.len().saturating_sub(ended);
        Ok(Answer::json(200, &exchange.ids.request_id, &object([("keys", created.into()), ("ended", ended.into())])))
    }

    /// Ends keys in the log, then stores all records. A key that the log knows to be ended gets the record of one, whatever
    /// the push says: pushes may be late or repeated.
    async fn store_api_keys<P: Ports>(
        &self,
        (issuer, keys): (&Issuer, &ApiKeyVerifier),
        changes: &[ApiKeyChange],
        ports: &P,
    ) -> Result<(), Denial> {
        let key_of =
            |change: &ApiKeyChange| RevocationKey::new(RevocationKind::Token, &issuer.token.issuer, &change.id);
        let now = ports.now().secs();
        let keep_until = now.saturating_add(API_KEY_END_S);
        let ended = changes.iter().filter(|change| change.record.is_none());
        let entry = |change| RevocationEntry { key: key_of(change), issued_until: DATE_SECS, keep_until };
        self.revocations.revoke_all(&ended.map(entry).collect::<Vec<_>>(), ports).await?;
        let created: Vec<_> = changes.iter().filter(|change| change.record.is_some()).map(key_of).collect();
        let before = self.revocations.revoked_among(&created, ports).await?;
        let record = |change: &ApiKeyChange| {
            let (text, keep_s) = match &change.record {
                Some((text, expires_at)) if !before.contains(&key_of(change)) => {
                    let keep_s = |at: u64| at.saturating_add(API_KEY_EXPIRED_S).saturating_sub(now);
                    (text.clone(), expires_at.map(keep_s))
                }
                _ => (ENDED_RECORD.to_owned(), Some(API_KEY_END_S)),
            };
            Record { name: keys.name_of(&change.digest), text, keep_s }
        };
        // The store would refuse one that has expired long ago.
        let records =
            changes.iter().map(record).filter(|record| record.keep_s.is_none_or(|secs| secs >= limits::KV_LEAST_S));
        ports.write_records(&records.collect::<Vec<_>>()).await.map_err(|fault| keys.fail(code(fault)))?;
        // A key that another push has ended meanwhile may have its record from this one. The repetition ends it there, too.
        let is_unchanged = self.revocations.revoked_among(&created, ports).await? == before;
        if is_unchanged { Ok(()) } else { Err(Denial::ApiKeysUnavailable { fault: "ended_meanwhile" }) }
    }
}

/// Returns the code of a fault for operators.
const fn code(fault: Fault) -> &'static str {
    if matches!(fault, Fault::NotBound) { "store_not_bound" } else { "store_failed" }
}
