//! Pushes of API keys: writes what a push creates and ends.
//!
//! The store is eventually consistent, so a record decides nothing by itself: it lasts longer than the log's entry takes to
//! reach every isolate, and a creation that arrives late is compared with the log.

use super::{
    answer::Answer,
    api_keys::{ApiKeyVerifier, code},
    denial::Denial,
    exchange::Exchange,
    gateway::Gateway,
    issuer::Issuer,
    limits,
    log::Received,
    ports::{Ports, Record},
};
use portcullis_policy::Refusal;
use portcullis_token::{
    self as token, ApiKeyChange, ENDED_RECORD,
    limits::{API_KEY_END_S, API_KEY_EXPIRED_S, API_KEYS_BYTES, DATE_SECS},
    object,
    revocation::{RevocationEntry, RevocationKey, RevocationKind},
};

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
