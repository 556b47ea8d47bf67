//! The one order of things: size, target, the gateway's own paths, route,
//! credentials, token, revocation, rights, assertion, upstream. Read `decide` once and you
//! have read what a request must pass.

use std::rc::Rc;

use portcullis_redact::redact;

use super::{
    Answer, Chore, CorsHeaders, Denial, Gate, Head, LogLine,
    assertion::Statement,
    credentials, headers,
    log::level,
    own,
    ports::{Forward, Forwarded, Ports},
    remembered::{self, Entry, TokenDigest},
    revocations::Source,
    settings::IssuerState,
    trace::Ids,
};
use crate::{
    config::{Access, HeaderRules, Route, is_cors_header, is_own_path, is_private},
    keys::{self, Key, KeyQuery, KeyStanding},
    pipeline::limits,
    revocation::RevocationKeys,
    route::{BadTarget, Miss, Principal, Target, permits},
    token::{self, SignatureOutcome, TokenError, TokenPolicy, UnixMillis, VerifiedToken},
};

/// What became of a request.
#[derive(Debug)]
pub struct Handled<R> {
    /// What the client gets.
    pub outcome: Outcome<R>,
    /// What the log gets.
    pub line: LogLine,
    /// What a browser's page is told.
    pub cors: CorsHeaders,
    /// How an upstream's answer is passed on.
    pub passing: Passing,
    /// What is left to do once the client has its answer.
    pub chores: Vec<Chore>,
}

/// What the client gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// An upstream's answer.
    Forwarded(R),
    /// The gateway's own.
    Answered(Answer),
}

/// How an upstream's answer is passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passing {
    /// What the route does to its headers.
    pub headers: HeaderRules,
    /// Milliseconds that its body may stand still; none: for as long as it likes.
    pub idle_timeout_ms: Option<u64>,
    /// Whether it gets `X-Content-Type-Options: nosniff` unless it has one of its own.
    pub nosniff: bool,
}

impl Passing {
    /// Whether one of the answer's headers stays behind, by its lower-case name.
    pub fn removes(&self, name: &str) -> bool {
        is_private(name) || is_cors_header(name) || self.headers.covers(name)
    }
}

/// Who may pass: on a protected route a verified token's owner, on a public one
/// anybody.
enum Passed {
    Anybody,
    User(Passport),
}

/// A verified token, and what of it is needed later.
pub(super) struct Passport {
    pub(super) verified: Rc<VerifiedToken>,
    /// Index of its issuer.
    pub(super) issuer: usize,
    /// Under which it may be revoked, if it may.
    pub(super) marks: Option<RevocationKeys>,
}

/// What a token is shown for; each has a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To enter a route.
    Access,
    /// To revoke its issuer's tokens.
    Push,
}

/// A token that was checked just now.
pub(super) struct Checked {
    pub(super) verified: VerifiedToken,
    /// Index of its issuer.
    pub(super) issuer: usize,
    pub(super) key: Rc<Key>,
}

impl Gate {
    /// Handles one request from head to answer.
    pub async fn handle<P: Ports>(&self, head: &Head, ports: &P) -> Handled<P::Reply> {
        let begun = ports.now();
        let mut ids = Ids::new(head, begun, ports.random());
        if let Some(exporter) = &self.exporter {
            ids.sample(exporter.samples(&ids));
        }
        let mut line = begin_line(head, &ids);
        let mut chores = Vec::new();
        let decided = self.decide(head, &ids, ports, &mut line, &mut chores).await;
        let (status, outcome) = match decided {
            Ok(Outcome::Forwarded(Forwarded { reply, status, .. })) => (status, Outcome::Forwarded(reply)),
            Ok(Outcome::Answered(answer)) => (answer.status, Outcome::Answered(answer)),
            Err(denial) => {
                line.code = Some(denial.code());
                line.detail = denial.for_log().map(str::to_owned);
                let operation = line.route.as_deref().unwrap_or("gateway");
                let answer = if head.asks_for_page() {
                    Answer::page(&denial, &ids.request_id)
                } else {
                    Answer::problem(&denial, operation, &ids.request_id)
                };
                (denial.status(), Outcome::Answered(answer))
            }
        };
        line.status = status;
        line.level = level(status);
        line.duration_ms = ports.now().since(begun);
        self.count(&line, ports, &mut chores);
        self.note_spans(&line, &ids, begun, ports, &mut chores);
        let cors = self.cors_headers(head, line.route_index);
        let passing = self.passing(&line);
        Handled { outcome, line, cors, passing, chores }
    }

    async fn decide<P: Ports>(
        &self,
        head: &Head,
        ids: &Ids,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Result<Outcome<Forwarded<P::Reply>>, Denial> {
        head.check_size()?;
        head.check_host()?;
        let target = Target::parse(&head.target).map_err(|error| match error {
            BadTarget::TooLong => Denial::TargetTooLong,
            BadTarget::Ambiguous => Denial::TargetAmbiguous,
        })?;
        line.path = redact(target.path());
        if !target.is_plain() && is_own_path(target.path()) {
            return Err(Denial::TargetAmbiguous);
        }
        if head.has_undeliverable_body() && is_own_path(target.path()) {
            return Err(Denial::BodyUnexpected);
        }
        if let Some(answer) = self.answer_own(head, &target, &ids.request_id, ports, line, chores).await {
            return answer.map(Outcome::Answered);
        }
        if let Some(answer) = self.answer_preflight(head, &target, &ids.request_id) {
            return answer.map(Outcome::Answered);
        }
        let found = self.table.find(&head.method, &target).map_err(|miss| match miss {
            Miss::Path => Denial::RouteUnknown,
            Miss::Ambiguous => Denial::TargetAmbiguous,
            Miss::Method { allow, route } => {
                line.route = self.policy.routes.get(route).map(|route| route.path.clone());
                line.route_index = Some(route);
                Denial::MethodNotAllowed { allow }
            }
        })?;
        let (Some(route), Some(upstream)) = (self.policy.routes.get(found.route), self.upstreams.get(found.upstream))
        else {
            return Err(Denial::RouteUnknown);
        };
        line.route = Some(route.path.clone());
        line.route_index = Some(found.route);
        if head.has_undeliverable_body() {
            return Err(Denial::BodyUnexpected);
        }
        if head.body_bytes().is_some_and(|bytes| bytes > route.max_body_bytes) {
            return Err(Denial::BodyTooLarge);
        }
        self.limit_arrival(route, head, ports).await?;
        let passed = match &route.access {
            Access::Public => Passed::Anybody,
            rule @ (Access::User
            | Access::Roles(_)
            | Access::Scopes(_)
            | Access::Claim(_)
            | Access::Owner(_)
            | Access::Any(_)
            | Access::All(_)) => {
                let admitted = async {
                    let passport = self.verify(head, route, ports, line, chores).await?;
                    let source = self.refuse_revoked(&passport, route.revocation, ports, chores).await?;
                    Ok((passport, source))
                };
                let (passport, source) = match admitted.await {
                    Ok(admitted) => admitted,
                    Err(denial) => return Err(self.limit_failure(denial, head, ports, chores)),
                };
                let identity = passport.verified.identity();
                line.user_id = Some(identity.user_id.clone());
                let principal = Principal {
                    user_id: &identity.user_id,
                    roles: &identity.roles,
                    scopes: &identity.scopes,
                    claims: &identity.claims,
                };
                // Two issuers may each have a user of one id, and they are two people.
                if !self.takes_issuer(route, passport.issuer) || !permits(rule, principal, &found.params) {
                    return Err(Denial::RightsMissing);
                }
                // After the rights: who has none must not be able to keep the log busy.
                if source == Source::Log {
                    self.refuse_by_log(&passport, ports).await?;
                }
                self.limit_entry(route, identity, ports).await?;
                Passed::User(passport)
            }
        };
        if let Some(retry_s) = upstream.maintenance_s {
            return Err(Denial::Maintenance { retry_s });
        }
        // What is forwarded is what is asserted; what was decided on led to it by the
        // policy's own words alone.
        let target = match &route.rewrite {
            Some((from, to)) => target.with_prefix(from, to).ok_or(Denial::RouteUnknown)?,
            None => target,
        };
        let identity = match &passed {
            Passed::Anybody => None,
            Passed::User(passport) => Some(passport.verified.identity()),
        };
        let statement = Statement {
            audience: &upstream.name,
            request_id: &ids.request_id,
            method: &head.method,
            target: target.as_str(),
            identity,
        };
        let cookie = self.policy.token_cookie.as_deref();
        let forward = Forward {
            url: target.as_str().to_owned(),
            method: &head.method,
            headers: headers::compose(head, ids, identity, route, cookie, upstream.timeout_ms),
            timeout_ms: upstream.timeout_ms,
            body_timeout_ms: upstream.body_timeout_ms,
            max_body_bytes: route.max_body_bytes,
            is_timed: upstream.idle_timeout_ms.is_some(),
        };
        line.upstream = Some(upstream.name.clone());
        line.upstream_index = Some(found.upstream);
        let forwarded = self.forward(upstream, forward, &statement, ports, line).await?;
        if let (Passed::User(passport), true, 200..=299) = (&passed, route.ends_session, forwarded.status) {
            self.end_session(passport, ports, chores).await;
        }
        Ok(Outcome::Forwarded(forwarded))
    }

    fn takes_issuer(&self, route: &Route, issuer: usize) -> bool {
        let name = self.issuers.get(issuer).map(|issuer| &issuer.name);
        route.issuers.as_ref().is_none_or(|issuers| name.is_some_and(|name| issuers.contains(name)))
    }

    fn passing(&self, line: &LogLine) -> Passing {
        let route = line.route_index.and_then(|index| self.policy.routes.get(index));
        let upstream = line.upstream_index;
        let headers = route.map(|route| route.response_headers.clone()).unwrap_or_default();
        Passing {
            nosniff: route.is_some_and(|route| route.nosniff) && !headers.covers("x-content-type-options"),
            headers,
            idle_timeout_ms: upstream.and_then(|index| self.upstreams.get(index)).and_then(|it| it.idle_timeout_ms),
        }
    }

    /// From a request's token to verified claims, or a 401, or a 503 when it cannot be
    /// known.
    async fn verify<P: Ports>(
        &self,
        head: &Head,
        route: &Route,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Result<Passport, Denial> {
        let cookie = self.policy.token_cookie.as_deref().filter(|_| route.token_cookie);
        let text = credentials::of(head, cookie, self.cors_of(route))?;
        // Before it is hashed: a hash of a megabyte is work, too.
        if text.len() > token::limits::TOKEN_BYTES {
            return Err(Denial::Token(TokenError::TooLarge));
        }
        let digest = remembered::digest(text);
        if let Some(passport) = self.recall(&digest, ports.now(), chores) {
            line.cache = Some("token");
            return Ok(passport);
        }
        let Checked { verified, issuer, key } = self.check_token(text, Purpose::Access, ports, line, chores).await?;
        let state = self.issuers.get(issuer).ok_or(Denial::Token(TokenError::UnknownIssuer))?;
        let identity = verified.identity();
        let marks = state.revocable.then(|| RevocationKeys::of(identity, key.kid()));
        let expires_at = identity.expires_at.plus(state.token.leeway_s.saturating_mul(1000));
        let verified = Rc::new(verified);
        let entry = Entry { verified: Rc::clone(&verified), issuer, key, marks };
        self.remembered.borrow_mut().note(digest, entry, expires_at, ports.now());
        Ok(Passport { verified, issuer, marks })
    }

    /// From a token's text to its claims, by its issuer's policy for this purpose.
    pub(super) async fn check_token<P: Ports>(
        &self,
        text: &str,
        purpose: Purpose,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Result<Checked, Denial> {
        let unverified = token::parse(text).map_err(Denial::Token)?;
        let named = unverified.unverified_issuer().map_err(Denial::Token)?;
        let (issuer, policy, origin) = self
            .issuers
            .iter()
            .enumerate()
            .find_map(|(index, issuer)| issuer.token.origin_of(named).map(|origin| (index, issuer, origin)))
            .and_then(|(index, issuer, origin)| Some((index, policy_for(purpose, issuer)?, origin)))
            .ok_or(Denial::Token(TokenError::UnknownIssuer))?;
        let algorithm = unverified.select_algorithm(policy).map_err(Denial::Token)?;
        let kid = unverified.unverified_kid();
        // One key in nearly all cases; several where the issuer leaves no other way to tell.
        let mut tried: Vec<Rc<Key>> = Vec::new();
        let (key, outcome) = loop {
            let wanted = KeyQuery { kid, algorithm, origin, tried: &tried };
            let (key, place) = self.key_for(issuer, &wanted, ports, chores).await?;
            line.cache = Some(place.name());
            let outcome = ports
                .check_signature(&key, algorithm, unverified.signing_input(), unverified.signature())
                .await
                .map_err(|_| Denial::BackendUnavailable)?;
            match outcome {
                SignatureOutcome::Valid => break (key, outcome),
                SignatureOutcome::Invalid => tried.push(key),
            }
            if tried.len() >= keys::limits::CANDIDATES {
                return Err(Denial::Token(TokenError::BadSignature));
            }
        };
        let verified = unverified.admit(outcome, policy, ports.now()).map_err(Denial::Token)?;
        Ok(Checked { verified, issuer, key })
    }

    /// A token that was verified before, if the key that vouched for it is its
    /// issuer's still.
    fn recall(&self, digest: &TokenDigest, now: UnixMillis, chores: &mut Vec<Chore>) -> Option<Passport> {
        let found = self.remembered.borrow().find(digest, now).filter(|entry| self.vouches(entry, now, chores));
        let mut remembered = self.remembered.borrow_mut();
        let count = if found.is_some() { &mut remembered.hits } else { &mut remembered.misses };
        *count = count.saturating_add(1);
        found.map(|Entry { verified, issuer, marks, .. }| Passport { verified, issuer, marks })
    }

    fn vouches(&self, entry: &Entry, now: UnixMillis, chores: &mut Vec<Chore>) -> bool {
        let Some(state) = self.issuers.get(entry.issuer) else { return false };
        let standing = state.holding.borrow().standing(&entry.key, now);
        if standing == KeyStanding::Stale {
            chores.push(Chore::Refresh(entry.issuer));
        }
        standing != KeyStanding::Gone
    }
}

/// The answer where no gate is asked: of a deployment whose settings no gate can be built from,
/// or of an isolate in which too many requests wait. Alive, and closed to everything.
pub fn handle_refused<P: Ports>(head: &Head, denial: Denial, ports: &P) -> Handled<P::Reply> {
    let ids = Ids::new(head, ports.now(), ports.random());
    let mut line = begin_line(head, &ids);
    let answer = if head.target == "/health" {
        own::health(&ids.request_id)
    } else {
        line.code = Some(denial.code());
        line.detail = denial.for_log().map(str::to_owned);
        Answer::problem(&denial, "gateway", &ids.request_id)
    };
    line.status = answer.status;
    line.level = level(answer.status);
    Handled {
        outcome: Outcome::Answered(answer),
        line,
        cors: CorsHeaders::default(),
        passing: Passing::default(),
        chores: Vec::new(),
    }
}

fn policy_for(purpose: Purpose, issuer: &IssuerState) -> Option<&TokenPolicy> {
    match purpose {
        Purpose::Access => Some(&issuer.token),
        Purpose::Push => issuer.pusher.as_ref(),
    }
}

fn begin_line(head: &Head, ids: &Ids) -> LogLine {
    LogLine {
        service: "gateway",
        request_id: ids.request_id.clone(),
        trace_id: ids.trace_id.clone(),
        span_id: ids.span_id.clone(),
        method: head.method.chars().take(limits::LOG_METHOD_BYTES).collect(),
        user_agent: head.header("user-agent").map(redact),
        ip: headers::client_address(head).map(str::to_owned),
        ..LogLine::default()
    }
}
