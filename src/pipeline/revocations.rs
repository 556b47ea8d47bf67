//! Revoked tokens: carries out the plans of [`crate::revocation`] with the ports,
//! tells the log of sessions that end at this gateway, and takes what issuers push.
//! Holds no cell's borrow across a wait.

use serde_json::json;

use super::{
    Answer, Chore, Denial, Gate, Head, LogLine, credentials,
    flow::{Passport, Purpose},
    ports::{BodyFault, LogPart, LogText, Ports},
};
use crate::{
    config::RevocationCheck,
    revocation::{
        Applied, LogPage, RevocationEntry, RevocationKeys, RevocationKind, RevocationPlan, limits, parse_push,
    },
    token::{TokenError, UnixMillis},
};

/// Path at which issuers push.
pub(super) const PUSH_PATH: &str = "/_gateway/revocations";

/// Whether the copy can be judged by, or the log has to be asked about each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Copy,
    Log,
}

impl Gate {
    /// Refuses a token that the copy knows to be revoked, and says whether that was
    /// enough.
    pub(super) async fn refuse_revoked<P: Ports>(
        &self,
        passport: &Passport,
        check: RevocationCheck,
        ports: &P,
        chores: &mut Vec<Chore>,
    ) -> Result<Source, Denial> {
        // No marks: its issuer's tokens cannot be revoked.
        let Some(marks) = &passport.marks else { return Ok(Source::Copy) };
        // Whatever the copy's age, what it says is revoked stays so.
        self.refuse_known(marks)?;
        let source = match check {
            RevocationCheck::Strict => Source::Log,
            RevocationCheck::Copy => self.young_copy(ports, chores).await?,
        };
        // Again: it may have been read meanwhile.
        self.refuse_known(marks)?;
        Ok(source)
    }

    fn refuse_known(&self, marks: &RevocationKeys) -> Result<(), Denial> {
        if self.revocations.borrow().revokes(marks) { Err(Denial::TokenRevoked) } else { Ok(()) }
    }

    /// Asks the log itself about a token.
    pub(super) async fn refuse_by_log<P: Ports>(&self, passport: &Passport, ports: &P) -> Result<(), Denial> {
        let Some(marks) = &passport.marks else { return Ok(()) };
        self.ask_log(marks, ports).await?;
        self.refuse_known(marks)
    }

    /// Sees to it that the copy is young enough.
    async fn young_copy<P: Ports>(&self, ports: &P, chores: &mut Vec<Chore>) -> Result<Source, Denial> {
        let begun = ports.now();
        loop {
            let now = ports.now();
            if now.since(begun) > limits::WAIT_MS {
                return Err(Denial::RevocationUnknown { retry_ms: limits::BACK_OFF_MS });
            }
            let plan = self.revocations.borrow().plan(self.policy.revocation_max_age_ms, now);
            match plan {
                RevocationPlan::Use => return Ok(Source::Copy),
                RevocationPlan::UseAndRead => {
                    chores.push(Chore::ReadLog);
                    return Ok(Source::Copy);
                }
                RevocationPlan::Read => self.read_log(ports).await,
                RevocationPlan::Wait => {
                    if !self.wait_for_another(limits::WAIT_STEP_MS, ports).await {
                        return Err(Denial::RevocationUnknown { retry_ms: limits::BACK_OFF_MS });
                    }
                }
                RevocationPlan::AskLog => return Ok(Source::Log),
                RevocationPlan::Unavailable { retry_ms } => return Err(Denial::RevocationUnknown { retry_ms }),
            }
        }
    }

    /// Whether revoked tokens can be told apart; without revocable tokens, yes.
    pub(super) async fn knows_revoked<P: Ports>(&self, ports: &P, chores: &mut Vec<Chore>) -> bool {
        !self.issuers.iter().any(|issuer| issuer.revocable) || self.young_copy(ports, chores).await.is_ok()
    }

    /// Asks the log about one token, and notes what it says.
    async fn ask_log<P: Ports>(&self, marks: &RevocationKeys, ports: &P) -> Result<(), Denial> {
        let marks: Vec<_> = marks.iter().collect();
        let answer = ports.read_log(LogPart::Entries(&marks), false).await;
        let page = answer.ok().and_then(|answer| LogPage::from_json(&answer.text));
        let page = page.ok_or(Denial::RevocationUnknown { retry_ms: limits::BACK_OFF_MS })?;
        let mut copy = self.revocations.borrow_mut();
        for entry in page.entries.into_iter().filter(|entry| marks.contains(&entry.key)) {
            copy.note(entry);
        }
        Ok(())
    }

    /// Looks at the log; how that went is noted in the copy.
    pub(super) async fn read_log<P: Ports>(&self, ports: &P) {
        // A kept page, and again past what kept it.
        self.revocations.borrow_mut().begin(limits::ASK_MS.saturating_mul(2), ports.now());
        let outcome = self.read_pages(ports).await;
        let mut copy = self.revocations.borrow_mut();
        match outcome {
            Ok(()) => copy.succeed(ports.now()),
            Err(code) => copy.fail(code, ports.now()),
        }
    }

    async fn read_pages<P: Ports>(&self, ports: &P) -> Result<(), &'static str> {
        let mut newest = self.read_page(LogPart::Newest, true, ports).await?;
        // Whoever keeps pages may keep them for too long.
        if newest.1.is_none() && ports.now().since(newest.0.as_of) > limits::PAGE_KEEP_MS {
            newest = self.read_page(LogPart::Newest, false, ports).await?;
        }
        for may_be_kept in [true, false] {
            if self.take(&newest, ports) != Applied::Gap {
                return Ok(());
            }
            self.revocations.borrow_mut().begin(limits::ASK_WHOLE_MS, ports.now());
            let whole = self.read_page(LogPart::Whole, may_be_kept, ports).await?;
            self.take(&whole, ports);
            // Too large for a copy is an answer, too.
            if self.revocations.borrow().overflows() {
                return Ok(());
            }
        }
        if self.take(&newest, ports) == Applied::Gap { Err("log_gap") } else { Ok(()) }
    }

    fn take<P: Ports>(&self, (page, asked_at): &(LogPage, Option<UnixMillis>), ports: &P) -> Applied {
        self.revocations.borrow_mut().take(page, *asked_at, ports.now())
    }

    /// A page, and when it was asked for if it comes from the log itself.
    async fn read_page<P: Ports>(
        &self,
        part: LogPart<'_>,
        may_be_kept: bool,
        ports: &P,
    ) -> Result<(LogPage, Option<UnixMillis>), &'static str> {
        let asked_at = ports.now();
        let LogText { text, kept } = ports.read_log(part, may_be_kept).await?;
        let page = LogPage::from_json(&text).ok_or("log_malformed")?;
        Ok((page, (!kept).then_some(asked_at)))
    }

    /// Ends the session of a token whose owner has just logged out: here at once, and in
    /// the log before the client hears of it.
    pub(super) async fn end_session<P: Ports>(&self, passport: &Passport, ports: &P, chores: &mut Vec<Chore>) {
        let (Some(marks), Some(issuer)) = (&passport.marks, self.issuers.get(passport.issuer)) else { return };
        let Some(mark) = marks.end() else { return };
        let (policy, identity) = (&issuer.token, passport.verified.identity());
        // A session's youngest token may have been issued this moment.
        let last = match identity.session_id {
            Some(_) => ports.now().secs().saturating_add(policy.leeway_s).saturating_add(policy.max_lifetime_s),
            None => identity.expires_at.secs(),
        };
        let keep_until = last.saturating_add(policy.leeway_s);
        let entry = RevocationEntry { key: mark, issued_until: crate::token::limits::DATE_SECS, keep_until };
        self.revocations.borrow_mut().note(entry);
        if !append(&[entry], ports).await {
            chores.push(Chore::Note(entry));
        }
    }

    /// Tries again to tell the log of an end.
    pub(super) async fn tell_log<P: Ports>(&self, entry: RevocationEntry, ports: &P) {
        for tried in 1..limits::NOTE_TRIES {
            ports.sleep(limits::BACK_OFF_MS.saturating_mul(u64::from(tried))).await;
            if append(&[entry], ports).await {
                return;
            }
        }
    }

    /// A push of an issuer: its own tokens, and nobody else's, stop being good.
    pub(super) async fn answer_push<P: Ports>(
        &self,
        head: &Head,
        request_id: &str,
        ports: &P,
        line: &mut LogLine,
        chores: &mut Vec<Chore>,
    ) -> Result<Answer, Denial> {
        if head.method != "POST" {
            return Err(Denial::MethodNotAllowed { allow: "POST".to_owned() });
        }
        let text = credentials::bearer(head)?;
        let checked = self.check_token(text, Purpose::Push, ports, line, chores).await?;
        let issuer = self.issuers.get(checked.issuer).ok_or(Denial::Token(TokenError::UnknownIssuer))?;
        // Who has a key that leaked could revoke whatever they like.
        self.refuse_known(&RevocationKeys::of(checked.verified.identity(), checked.key.kid()))?;
        let body = ports.read_body(limits::PUSH_BYTES).await.map_err(|fault| match fault {
            BodyFault::TooLarge => Denial::PushTooLarge,
            BodyFault::Broken => Denial::PushMalformed { detail: "the body cannot be read".to_owned() },
        })?;
        let (policy, now) = (&issuer.token, ports.now());
        let revocations =
            parse_push(&body, policy.leeway_s, now).map_err(|bad| Denial::PushMalformed { detail: bad.0 })?;
        let to_entry = |revocation: &crate::revocation::Revocation| {
            revocation.to_entry(&policy.issuer, policy.max_lifetime_s, policy.leeway_s, now)
        };
        let entries: Vec<RevocationEntry> = revocations.iter().filter_map(to_entry).collect();
        if !entries.is_empty() && !append(&entries, ports).await {
            return Err(Denial::RevocationUnknown { retry_ms: limits::BACK_OFF_MS });
        }
        let mut copy = self.revocations.borrow_mut();
        for entry in &entries {
            copy.note(*entry);
        }
        if revocations.iter().any(|revocation| revocation.kind == RevocationKind::Key) {
            // The key that signs instead is not in the set at hand.
            chores.push(Chore::Renew(checked.issuer));
        }
        Ok(Answer::json(200, request_id, &json!({ "received": revocations.len(), "noted": entries.len() })))
    }
}

/// Adds to the log. What is to be added travels as a page does.
async fn append<P: Ports>(entries: &[RevocationEntry], ports: &P) -> bool {
    let page = LogPage { as_of: ports.now(), newest: 0, from: 0, overflows: false, entries: entries.to_vec() };
    match page.to_json() {
        Some(text) => ports.append_log(&text).await,
        None => false,
    }
}
