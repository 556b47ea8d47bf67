//! Introspection (RFC 7662): asks an authorization server what an opaque token means. Owns the memory of inactive tokens;
//! the authenticator caches active ones, as it does verified JWTs.

use std::{cell::RefCell, fmt::Write as _, net::IpAddr, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_resilience::BreakerState;
use sha2::{Digest as _, Sha256};

use super::{
    backchannel::{AskFault, Backchannel, RETRY_MS},
    credentials,
    denial::Denial,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::{Lease, Permits},
    ports::{Backchannels, QuestionBody, Runtime},
    settings::{Misconfiguration, Settings},
};
use portcullis_policy::Introspection;
use portcullis_token::{self as token, TokenError, TokenPolicy, UnixMillis, VerifiedToken};

/// The introspection endpoint of one issuer.
pub(super) struct Introspector {
    backchannel: Backchannel,
    /// Name of the issuer.
    issuer: String,
    /// Seconds for which an answer is used at most.
    cache_s: u64,
    /// The digests of tokens that a request asks about, and until when it may take.
    asked: RefCell<Vec<([u8; 32], Lease)>>,
    timeout_ms: u64,
    waiters: Permits,
    /// Why a token was refused, by its digest.
    inactive: RefCell<LimitedCache<[u8; 32], TokenError>>,
    /// What is missing in the settings.
    fault: Option<String>,
    metrics: Rc<Metrics>,
}

/// A note of a question, which is removed when it is dropped.
struct AskedGuard<'a> {
    asked: &'a RefCell<Vec<([u8; 32], Lease)>>,
    digest: [u8; 32],
}

impl Drop for AskedGuard<'_> {
    fn drop(&mut self) {
        self.asked.borrow_mut().retain(|(digest, _)| *digest != self.digest);
    }
}

impl Introspector {
    /// # Errors
    /// [`Misconfiguration`]: the URL in the settings is not one, it is plain HTTP outside development, or the secret
    /// is no bearer token and there is no `client_id`.
    pub(super) fn new(
        issuer: &str,
        config: &Introspection,
        settings: &Settings<'_>,
        metrics: &Rc<Metrics>,
    ) -> Result<Self, Misconfiguration> {
        let suffix = issuer.to_ascii_uppercase().replace('-', "_");
        let (variable, secret) = (format!("INTROSPECTION_{suffix}_URL"), format!("INTROSPECTION_SECRET_{suffix}"));
        let shared = settings.non_empty(&secret);
        let fault = shared.is_none().then(|| ["secret ", &secret, " is not set"].concat());
        let authorization = match (&config.client_id, shared) {
            (_, None) => None,
            (Some(id), Some(shared)) => Some(basic(id, &shared)),
            (None, Some(shared)) if credentials::is_token(&shared) => Some(["Bearer ", &shared].concat()),
            (None, Some(_)) => {
                return Err(Misconfiguration(format!(
                    "secret {secret} has other characters than letters, digits and -._~+/=; or write client_id, whose \
                     secret it then is"
                )));
            }
        };
        let what = format!("the introspection endpoint of issuer {issuer:?}");
        let place = (config.url.as_str(), variable.as_str(), what.as_str());
        Ok(Self {
            backchannel: Backchannel::new(place, authorization, (config.timeout_ms, &config.breaker), settings)?,
            issuer: issuer.to_owned(),
            cache_s: config.cache_s,
            asked: RefCell::default(),
            timeout_ms: config.timeout_ms,
            waiters: Permits::new(limits::BACKCHANNEL_QUESTIONS),
            inactive: RefCell::new(LimitedCache::new(limits::INACTIVE_TOKENS)),
            fault,
            metrics: Rc::clone(metrics),
        })
    }

    /// Waits while another request asks about the same token, for as long as one answer may take. Returns whether it has waited:
    /// the caller may know the answer then. A client that sends several requests at once must not load the server with each.
    pub(super) async fn wait_for_others(&self, text: &str, clock: &impl Runtime) -> bool {
        let (digest, begun) = (<[u8; 32]>::from(Sha256::digest(text)), clock.now());
        let mut has_waited = false;
        loop {
            let now = clock.now();
            let is_asked = self.asked.borrow().iter().any(|(asked, lease)| *asked == digest && !lease.is_over(now));
            let is_late = now.abs_diff(begun) > self.timeout_ms;
            // Without a permit it asks, too: the permits of questions bound that.
            if !is_asked || is_late || !self.waiters.pause(limits::ANSWER_PAUSE_MS, clock).await {
                return has_waited;
            }
            has_waited = true;
        }
    }

    /// Asks what a token means, unless it was inactive a moment ago.
    ///
    /// # Errors
    /// [`TokenError`], or [`Denial::IntrospectionUnavailable`] without an answer.
    pub(super) async fn verify(
        &self,
        (text, policy): (&str, &TokenPolicy),
        (client, request_id): (Option<IpAddr>, &str),
        ports: &impl Backchannels,
    ) -> Result<VerifiedToken, Denial> {
        let (digest, now) = (<[u8; 32]>::from(Sha256::digest(text)), ports.now());
        let known = self.inactive.borrow().find(&digest, now).copied();
        if let Some(error) = known {
            self.count("cached");
            return Err(error.into());
        }
        let _asked = self.note_question(digest, now);
        let verified = match self.ask((text, policy), (client, request_id), ports).await {
            Ok(verified) => verified,
            Err((fault, retry_ms)) => {
                self.count(fault);
                return Err(Denial::IntrospectionUnavailable { retry_ms, fault });
            }
        };
        self.count(if verified.is_ok() { "active" } else { "refused" });
        verified.map_err(|error| {
            let lease = Lease { since: now, lasts_ms: limits::INACTIVE_MS };
            self.inactive.borrow_mut().insert(digest, error, 1, lease);
            error.into()
        })
    }

    async fn ask(
        &self,
        (text, policy): (&str, &TokenPolicy),
        (client, request_id): (Option<IpAddr>, &str),
        ports: &impl Backchannels,
    ) -> Result<Result<VerifiedToken, TokenError>, AskFault> {
        // The endpoint refuses strangers (RFC 7662, section 2.1), and must not see tokens for nothing.
        if self.fault.is_some() {
            return Err(("secret", RETRY_MS));
        }
        let answer = self.backchannel.ask((QuestionBody::Token(text), client), request_id, ports).await?;
        // An answer without it is none of an introspection endpoint, and says nothing about the token.
        if !answer.member("active").is_some_and(serde_json::Value::is_boolean) {
            return Err(self.backchannel.note_bad_answer());
        }
        Ok(token::admit_introspected((text, answer), policy, self.cache_s, ports.now()))
    }

    /// Notes that a request asks about a token, until the guard is dropped. The runtime may end the request first, so the note
    /// is also over when the answer must be there.
    fn note_question(&self, digest: [u8; 32], now: UnixMillis) -> AskedGuard<'_> {
        let lease = Lease { since: now, lasts_ms: self.timeout_ms.saturating_add(limits::WAITER_LOST_MS) };
        let mut asked = self.asked.borrow_mut();
        asked.retain(|(_, other)| !other.is_over(now));
        // Beyond the bound, the question is not shared.
        if u32::try_from(asked.len()).is_ok_and(|count| count < limits::BACKCHANNEL_QUESTIONS) {
            asked.push((digest, lease));
        }
        AskedGuard { asked: &self.asked, digest }
    }

    fn count(&self, result: &str) {
        let issuer = &self.issuer;
        self.metrics.count(format_args!("gateway_introspection_total{{issuer=\"{issuer}\",result=\"{result}\"}}"));
    }

    /// Milliseconds for which an answer is used at most.
    pub(super) fn cache_ms(&self) -> u64 {
        self.cache_s.saturating_mul(1000)
    }

    /// Returns the state of its circuit, and why the last question has no answer.
    pub(super) fn state(&self) -> (BreakerState, Option<&'static str>) {
        self.backchannel.state()
    }

    /// Returns what is missing in the settings.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Returns whether it may be asked at `now`. An open circuit is probed by a token, so it may once that is due.
    pub(super) fn may_ask(&self, now: UnixMillis) -> bool {
        self.fault.is_none() && self.backchannel.may_ask(now)
    }
}

/// Returns `Authorization` of a client (RFC 6749, section 2.3.1).
fn basic(id: &str, secret: &str) -> String {
    let mut pair = form_encoded(id);
    pair.push(':');
    pair.push_str(&form_encoded(secret));
    ["Basic ", &STANDARD.encode(pair)].concat()
}

fn form_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
