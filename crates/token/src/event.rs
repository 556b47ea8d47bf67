//! Security event tokens (RFC 8417) that revoke access tokens: logout tokens (OpenID Connect Back-Channel Logout 1.0,
//! section 2.4), and events of the OpenID Shared Signals Framework 1.0 (CAEP 1.0, RISC 1.0).
//!
//! An event revokes what was issued until its `iat`. So a replay of it revokes nothing more, and no memory of
//! `jti` is needed. An access token is no event, because it has no `events`; an event is no access token, because
//! it has.

use serde_json::{Map, Value};

use crate::{
    algorithm::Algorithm,
    claims::{Subject, date, is_header_safe, text},
    error::TokenError,
    header::Header,
    json::StrictObject,
    named_enum::named_enum,
    policy::{ClaimNames, TokenPolicy},
    revocation::{RevocationEntry, RevocationKey, RevocationKind, keep_until},
    time::UnixMillis,
};

named_enum! {
    /// A form of security event tokens.
    EventForm,
    /// Its name in metrics.
    name,
    /// A logout token.
    Logout = "logout",
    /// An event of the Shared Signals Framework.
    SecurityEvent = "security_event",
}

named_enum! {
    /// What an event did.
    EventResult,
    /// Its name in metrics and in the log.
    name,
    /// It revokes the tokens of a session.
    Session = "session_revoked",
    /// It revokes the tokens of a user.
    User = "user_revoked",
    /// Every token that it would revoke has expired.
    Expired = "expired",
    /// It is of no kind that revokes tokens.
    Ignored = "ignored",
    /// It names its subject in a format that tokens cannot be compared with.
    Unsupported = "subject_unsupported",
}

named_enum! {
    /// Why an event is refused, apart from [`TokenError`].
    EventFault,
    /// Stable snake_case code.
    code,
    /// The body is not one event in the media type of its form.
    Request = "event_request_invalid",
    /// The transmitter did not send the `Authorization` that was agreed.
    Sender = "event_sender_unknown",
    /// `events` is missing, malformed, or does not name the form's event.
    Unmarked = "event_missing",
    /// It has a claim that its form prohibits: `nonce`, or `sub` and `exp`.
    Claim = "event_claim_prohibited",
    /// `jti` is missing.
    Id = "event_id_missing",
    /// The subject is missing, malformed, or of another issuer.
    Subject = "event_subject_invalid",
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventError {
    /// By a check that access tokens have, too.
    Token(TokenError),
    /// By a check of events.
    Event(EventFault),
}

impl EventError {
    /// Stable snake_case code for answers, logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::Event(fault) => fault.code(),
        }
    }

    /// The text for the sender.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Token(TokenError::Expired) => "The token has expired",
            Self::Token(_) => "The token is not valid here",
            Self::Event(EventFault::Request) => "The request is not one token in the media type of this endpoint",
            Self::Event(EventFault::Sender) => "Authorization is not what was agreed",
            Self::Event(EventFault::Unmarked) => "The claim events does not name an event of this endpoint",
            Self::Event(EventFault::Claim) => "The token has a claim that its form prohibits",
            Self::Event(EventFault::Id) => "The claim jti is missing",
            Self::Event(EventFault::Subject) => "The subject is missing, malformed, or of another issuer",
        }
    }

    /// The error code of RFC 8935, section 2.4.
    pub const fn delivery_error(self) -> &'static str {
        match self {
            Self::Token(TokenError::UnknownKey | TokenError::BadSignature) => "invalid_key",
            Self::Token(TokenError::UnknownIssuer) => "invalid_issuer",
            Self::Token(TokenError::WrongAudience) => "invalid_audience",
            Self::Event(EventFault::Sender) => "authentication_failed",
            Self::Token(_) | Self::Event(_) => "invalid_request",
        }
    }
}

impl From<TokenError> for EventError {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<EventFault> for EventError {
    fn from(fault: EventFault) -> Self {
        Self::Event(fault)
    }
}

/// The rules for one issuer's events of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPolicy {
    /// The form.
    pub form: EventForm,
    /// The `iss` of the access tokens that the events revoke.
    pub subject_issuer: String,
    /// Issuer, audience and algorithms of the events.
    token: TokenPolicy,
}

impl EventPolicy {
    /// Returns the rules for events that revoke tokens of the policy `token`. `issuer` is their `iss`, if it is another.
    pub fn new(form: EventForm, token: &TokenPolicy, issuer: Option<&str>, audience: &[String]) -> Self {
        let types: &[&str] = match form {
            // Providers that follow the first version of the specification send `JWT`, or no type.
            EventForm::Logout => &["logout+jwt", "JWT"],
            EventForm::SecurityEvent => &["secevent+jwt"],
        };
        let token_policy = TokenPolicy {
            issuer: issuer.unwrap_or(&token.issuer).to_owned(),
            audience: audience.to_vec(),
            audience_claim: vec!["aud".to_owned()],
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            token_type: None,
            claims: ClaimNames::default(),
            require: Vec::new(),
            kept: Vec::new(),
            asserted: Vec::new(),
            ..token.clone()
        };
        Self { form, subject_issuer: token.issuer.clone(), token: token_policy }
    }

    /// Returns the rules as those of a token: for the issuer and the signature.
    pub fn as_token_policy(&self) -> &TokenPolicy {
        &self.token
    }
}

/// An event whose signature and claims were checked. Constructed only by [`crate::UnverifiedToken::admit_event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityEvent {
    /// Entries for the revocation log.
    pub entries: Vec<RevocationEntry>,
    /// What it does.
    pub result: EventResult,
}

/// The member of `events` that makes a token a logout token.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What the names of the events of the Shared Signals Framework begin with.
const SHARED_SIGNALS: &str = "https://schemas.openid.net/secevent/";

/// The same for events about accounts (RISC 1.0).
const RISC: &str = "https://schemas.openid.net/secevent/risc/";

/// Selects the algorithm and checks `typ`. A logout token may have none.
pub(crate) fn select_algorithm(header: &Header, policy: &EventPolicy) -> Result<Algorithm, TokenError> {
    let algorithm = header.algorithm(&policy.token)?;
    if policy.form == EventForm::SecurityEvent || header.typ.is_some() {
        header.check_type(&policy.token)?;
    }
    Ok(algorithm)
}

/// Checks the claims, and reads what the event revokes.
pub(crate) fn verify(
    claims: &StrictObject,
    policy: &EventPolicy,
    now: UnixMillis,
) -> Result<SecurityEvent, EventError> {
    let subject = Subject::new(claims, &policy.token, now).ok_or(TokenError::UnknownIssuer)?;
    if !subject.is_for_audience() {
        return Err(TokenError::WrongAudience.into());
    }
    let leeway_ms = policy.token.leeway_s.saturating_mul(1000);
    let issued_at = claims.member("iat").and_then(date).ok_or(TokenError::BadDates)?;
    // It would revoke tokens that are not issued yet.
    if issued_at > now.plus(leeway_ms) {
        return Err(TokenError::NotYetValid.into());
    }
    text(claims, &["jti".to_owned()])?.ok_or(EventFault::Id)?;
    let Some(Value::Object(events)) = claims.member("events") else { return Err(EventFault::Unmarked.into()) };
    let mut filed = Filed { policy, issued_at: issued_at.secs(), now: now.secs(), entries: Vec::new(), result: None };
    match policy.form {
        EventForm::Logout => {
            if claims.member("nonce").is_some() {
                return Err(EventFault::Claim.into());
            }
            let expires_at = claims.member("exp").map(|value| date(value).ok_or(TokenError::BadDates)).transpose()?;
            if expires_at.is_some_and(|expires_at| now >= expires_at.plus(leeway_ms)) {
                return Err(TokenError::Expired.into());
            }
            if !events.get(LOGOUT).is_some_and(Value::is_object) {
                return Err(EventFault::Unmarked.into());
            }
            let [user, session] = ["sub", "sid"].map(|name| text(claims, &[name.to_owned()]));
            let (user, session) = (user?, session?);
            if user.is_none() && session.is_none() {
                return Err(EventFault::Subject.into());
            }
            filed.file(&Names { user: user.as_deref(), session: session.as_deref(), are_alternatives: false });
        }
        EventForm::SecurityEvent => {
            // The framework prohibits both, so that no other token passes as an event (sections 4.1.7 and 4.1.8).
            if claims.member("sub").is_some() || claims.member("exp").is_some() {
                return Err(EventFault::Claim.into());
            }
            filed.file_events(claims.member("sub_id"), events)?;
        }
    }
    Ok(SecurityEvent { entries: filed.entries, result: filed.result.unwrap_or(EventResult::Ignored) })
}

/// Whom an event is about.
struct Names<'a> {
    user: Option<&'a str>,
    session: Option<&'a str>,
    /// Whether the subject may be either. Otherwise it is the session of that user.
    are_alternatives: bool,
}

/// The entries of an event.
struct Filed<'a> {
    policy: &'a EventPolicy,
    /// Seconds.
    issued_at: u64,
    /// Seconds.
    now: u64,
    entries: Vec<RevocationEntry>,
    result: Option<EventResult>,
}

impl Filed<'_> {
    fn file_events(&mut self, sub_id: Option<&Value>, events: &Map<String, Value>) -> Result<(), EventError> {
        if events.is_empty() {
            return Err(EventFault::Unmarked.into());
        }
        for (name, payload) in events {
            let payload = payload.as_object().ok_or(EventFault::Unmarked)?;
            if !revokes(name, payload) {
                continue;
            }
            // Transmitters of earlier drafts name the subject within the event.
            let subject = match (sub_id, payload.get("subject")) {
                (Some(subject), None) | (None, Some(subject)) => subject,
                (Some(_), Some(_)) | (None, None) => return Err(EventFault::Subject.into()),
            };
            match names_of(subject, &self.policy.subject_issuer)? {
                // Events of RISC are about all of a user's tokens, also if their subject names a session.
                Some(names) => {
                    let are_alternatives = names.are_alternatives || name.starts_with(RISC);
                    self.file(&Names { are_alternatives, ..names });
                }
                None => self.result = Some(EventResult::Unsupported),
            }
        }
        Ok(())
    }

    fn file(&mut self, names: &Names<'_>) {
        // Sessions have a new id after the next login, so that the clocks of a provider's nodes may differ. A user
        // who logs in again at once must get in.
        let session_until = self.issued_at.saturating_add(self.policy.token.leeway_s);
        let session = names.session.map(|id| (RevocationKind::Session, id, session_until));
        let user_kind = match names.session {
            // Tokens of the user's other sessions stay valid. Tokens without a session may be of this one.
            Some(_) if !names.are_alternatives => RevocationKind::SessionlessUser,
            Some(_) | None => RevocationKind::User,
        };
        let user = names.user.map(|id| (user_kind, id, self.issued_at));
        self.result = Some(EventResult::Expired);
        for (kind, id, issued_until) in session.into_iter().chain(user) {
            let keep_until = keep_until(&self.policy.token, issued_until, None);
            if keep_until > self.now {
                let key = RevocationKey::new(kind, &self.policy.subject_issuer, id);
                self.entries.push(RevocationEntry { key, issued_until, keep_until });
                let is_session = names.session.is_some();
                self.result = Some(if is_session { EventResult::Session } else { EventResult::User });
            }
        }
    }
}

/// Returns whether an event says that tokens of its subject must not be used any longer.
fn revokes(name: &str, payload: &Map<String, Value>) -> bool {
    match name.strip_prefix(SHARED_SIGNALS) {
        // A further credential takes nothing from those that exist.
        Some("caep/event-type/credential-change") => payload.get("change_type").is_none_or(|value| value != "create"),
        Some(name) => matches!(
            name,
            "caep/event-type/session-revoked"
                | "risc/event-type/sessions-revoked"
                | "risc/event-type/account-disabled"
                | "risc/event-type/account-purged"
                | "risc/event-type/credential-compromise"
        ),
        None => false,
    }
}

/// Reads a subject identifier (RFC 9493; Shared Signals Framework 1.0, section 3). `None` if its format names nothing
/// that tokens have, such as an e-mail address.
fn names_of<'a>(subject: &'a Value, issuer: &str) -> Result<Option<Names<'a>>, EventError> {
    let members = subject.as_object().ok_or(EventFault::Subject)?;
    let is_complex = match format_of(members) {
        Some(format) => format == "complex",
        // Earlier drafts have no format for it.
        None => true,
    };
    if !is_complex {
        let id = id_of(subject, issuer)?;
        let is_opaque = format_of(members) == Some("opaque");
        // An opaque id is one of a session or of a user.
        return Ok(id.map(|id| Names { user: Some(id), session: is_opaque.then_some(id), are_alternatives: true }));
    }
    let member = |name: &str| members.get(name).map_or(Ok(None), |value| id_of(value, issuer));
    let (user, session) = (member("user")?, member("session")?);
    // A device or a tenant alone.
    let is_named = user.is_some() || session.is_some();
    Ok(is_named.then_some(Names { user, session, are_alternatives: false }))
}

/// Returns the id in a simple subject; `None` in an unsupported format.
fn id_of<'a>(subject: &'a Value, issuer: &str) -> Result<Option<&'a str>, EventFault> {
    let members = subject.as_object().ok_or(EventFault::Subject)?;
    let name = match format_of(members).ok_or(EventFault::Subject)? {
        "opaque" => "id",
        "iss_sub" | "iss-sub" => {
            // An id of another issuer is another user's.
            if members.get("iss").is_none_or(|value| value != issuer) {
                return Err(EventFault::Subject);
            }
            "sub"
        }
        _ => return Ok(None),
    };
    let id = members.get(name).and_then(Value::as_str).filter(|id| !id.is_empty() && is_header_safe(id));
    id.map(Some).ok_or(EventFault::Subject)
}

/// `subject_type` is the name in earlier drafts.
fn format_of(members: &Map<String, Value>) -> Option<&str> {
    members.get("format").or_else(|| members.get("subject_type"))?.as_str()
}
