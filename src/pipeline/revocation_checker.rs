//! Whether a verified token was revoked: carries out the plans of [`portcullis_token::revocation`] with the
//! ports, and appends to the log. No borrow of a cell outlives a synchronous step.

use std::cell::{Ref, RefCell};

use super::{
    denial::Denial,
    permits::Permits,
    ports::{BackgroundTask, LogPart, LogText, RevocationLog, Runtime},
    wire::Fault,
};
use portcullis_policy::{Policy, RevocationCheck};
use portcullis_token::{
    UnixMillis,
    revocation::{LogPage, RevocationCache, RevocationEntry, RevocationKey, RevocationKeys, RevocationPlan, limits},
};

/// The local copy of the revocation log, and how it is kept fresh.
pub(super) struct RevocationChecker {
    cache: RefCell<RevocationCache>,
    /// Milliseconds: an older copy admits no token.
    max_age_ms: u64,
    /// Whether any issuer's tokens can be revoked.
    pub(super) is_needed: bool,
    waiters: Permits,
}

const UNKNOWN: Denial = Denial::RevocationUnknown { retry_ms: limits::BACK_OFF_MS };

impl RevocationChecker {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            cache: RefCell::default(),
            max_age_ms: policy.revocation.max_age_ms(),
            is_needed: policy.issuers.iter().any(|issuer| issuer.revocable),
            waiters: Permits::new(super::limits::WAITERS),
        }
    }

    /// Refuses a token that the copy knows to be revoked. Returns whether the log has to be
    /// asked as well. Without keys the token cannot be revoked.
    pub(super) async fn check(
        &self,
        keys: Option<&RevocationKeys>,
        check: RevocationCheck,
        ports: &impl RevocationLog,
    ) -> Result<bool, Denial> {
        let Some(keys) = keys else { return Ok(false) };
        // A revoked token stays revoked, so the copy's age does not matter here.
        self.check_copy(keys)?;
        if check == RevocationCheck::Strict {
            return Ok(true);
        }
        let asks_log = self.freshen(ports).await?;
        // Again: the copy may have been updated meanwhile.
        self.check_copy(keys)?;
        Ok(asks_log)
    }

    /// Refuses a token that the copy knows to be revoked, whatever the copy's age.
    fn check_copy(&self, keys: &RevocationKeys) -> Result<(), Denial> {
        if self.known().revokes(keys) { Err(Denial::TokenRevoked) } else { Ok(()) }
    }

    /// Refuses a token that the log knows to be revoked.
    pub(super) async fn check_log(
        &self,
        keys: Option<&RevocationKeys>,
        log: &impl RevocationLog,
    ) -> Result<(), Denial> {
        let Some(keys) = keys else { return Ok(()) };
        let asked: Vec<_> = keys.iter().collect();
        self.note(&read_entries(&asked, log).await?, log);
        self.check_copy(keys)
    }

    /// Returns which of these keys the log knows to be revoked, sorted.
    pub(super) async fn revoked_among(
        &self,
        keys: &[RevocationKey],
        log: &impl RevocationLog,
    ) -> Result<Vec<RevocationKey>, Denial> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<_> = read_entries(keys, log).await?.iter().map(|entry| entry.key).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Returns whether revoked tokens can be recognised.
    pub(super) async fn is_ready(&self, ports: &impl RevocationLog) -> bool {
        !self.is_needed || self.freshen(ports).await.is_ok()
    }

    /// Makes sure that the copy is young enough to decide, or that the log can. Returns whether the
    /// log has to be asked.
    async fn freshen(&self, ports: &impl RevocationLog) -> Result<bool, Denial> {
        let begun = ports.now();
        loop {
            let now = ports.now();
            let is_late = now.abs_diff(begun) > limits::WAIT_MS;
            let plan = self.cache.borrow().plan(self.max_age_ms, now);
            match plan {
                RevocationPlan::Use => return Ok(false),
                RevocationPlan::UseAndRead => {
                    ports.defer(BackgroundTask::ReadRevocationLog);
                    return Ok(false);
                }
                RevocationPlan::AskLog => return Ok(true),
                RevocationPlan::Unavailable { retry_ms } => return Err(Denial::RevocationUnknown { retry_ms }),
                RevocationPlan::Read | RevocationPlan::Wait if is_late => return Err(UNKNOWN),
                RevocationPlan::Read => self.read_log(ports).await,
                RevocationPlan::Wait => {
                    if !self.waiters.pause(limits::WAIT_STEP_MS, ports).await {
                        return Err(UNKNOWN);
                    }
                }
            }
        }
    }

    /// Updates the copy, unless another request has since.
    pub(super) async fn read_log_if_due(&self, ports: &impl RevocationLog) {
        if self.known().is_read_due(ports.now()) {
            self.read_log(ports).await;
        }
    }

    async fn read_log(&self, ports: &impl RevocationLog) {
        // Two questions: a cached page, and the log itself when that page is too old.
        self.cache.borrow_mut().begin(limits::ASK_MS.saturating_mul(2), ports.now());
        let outcome = self.read_pages(ports).await;
        let mut cache = self.cache.borrow_mut();
        match outcome {
            Ok(()) => cache.succeed(ports.now()),
            Err(code) => cache.fail(code, ports.now()),
        }
    }

    async fn read_pages(&self, ports: &impl RevocationLog) -> Result<(), &'static str> {
        let mut newest = read_page(LogPart::Newest, true, ports).await?;
        // A cache may keep pages for longer than it was told.
        if newest.1.is_none() && ports.now().abs_diff(newest.0.as_of) > limits::PAGE_KEEP_MS {
            newest = read_page(LogPart::Newest, false, ports).await?;
        }
        for may_be_cached in [true, false] {
            if self.apply(&newest, ports) {
                return Ok(());
            }
            self.cache.borrow_mut().begin(limits::ASK_WHOLE_MS, ports.now());
            let whole = read_page(LogPart::Whole, may_be_cached, ports).await?;
            self.apply(&whole, ports);
            // A log that is too large for a copy is an answer, too.
            if self.cache.borrow().overflows() {
                return Ok(());
            }
        }
        if self.apply(&newest, ports) { Ok(()) } else { Err("log_gap") }
    }

    fn apply(&self, (page, asked_at): &(LogPage, Option<UnixMillis>), clock: &impl Runtime) -> bool {
        self.cache.borrow_mut().apply(page, *asked_at, clock.now())
    }

    fn note(&self, entries: &[RevocationEntry], clock: &impl Runtime) {
        self.cache.borrow_mut().insert(entries, clock.now());
    }

    /// Revokes an entry: in this isolate at once, and in the log before the caller answers. When
    /// the log does not take it, a task appends it again.
    pub(super) async fn revoke(&self, entry: RevocationEntry, ports: &impl RevocationLog) {
        self.note(&[entry], ports);
        if !append(&[entry], ports).await {
            ports.defer(BackgroundTask::AppendRevocation(entry));
        }
    }

    /// Appends an entry that the log did not take before.
    pub(super) async fn append_again(&self, entry: RevocationEntry, ports: &impl RevocationLog) {
        for tried in 1..limits::NOTE_TRIES {
            ports.sleep(limits::BACK_OFF_MS.saturating_mul(u64::from(tried))).await;
            if append(&[entry], ports).await {
                return;
            }
        }
    }

    /// Revokes all entries or, when the log does not take them, none.
    pub(super) async fn revoke_all(
        &self,
        entries: &[RevocationEntry],
        ports: &impl RevocationLog,
    ) -> Result<(), Denial> {
        if !entries.is_empty() && !append(entries, ports).await {
            return Err(UNKNOWN);
        }
        self.note(entries, ports);
        Ok(())
    }

    /// Returns what this isolate knows of revoked tokens.
    pub(super) fn known(&self) -> Ref<'_, RevocationCache> {
        self.cache.borrow()
    }

    /// Returns whether the copy is young enough to admit tokens.
    pub(super) fn is_usable(&self, now: UnixMillis) -> bool {
        self.known().age_ms(now).is_some_and(|age| age <= self.max_age_ms)
    }
}

/// Reads a page, and returns when it was asked for if it comes from the log itself.
async fn read_page(
    part: LogPart<'_>,
    may_be_cached: bool,
    ports: &impl RevocationLog,
) -> Result<(LogPage, Option<UnixMillis>), &'static str> {
    let asked_at = ports.now();
    let LogText { text, cached } = ports.read_log(part, may_be_cached).await.map_err(code)?;
    let page = LogPage::from_json(&text).ok_or("log_malformed")?;
    Ok((page, (!cached).then_some(asked_at)))
}

/// Reads entries from the log itself.
async fn read_entries(asked: &[RevocationKey], log: &impl RevocationLog) -> Result<Vec<RevocationEntry>, Denial> {
    let answer = log.read_log(LogPart::Entries(asked), false).await;
    let mut page = answer.ok().and_then(|answer| LogPage::from_json(&answer.text)).ok_or(UNKNOWN)?;
    page.entries.retain(|entry| asked.contains(&entry.key));
    Ok(page.entries)
}

/// Appends entries to the log, in the form of a page.
async fn append(entries: &[RevocationEntry], ports: &impl RevocationLog) -> bool {
    let page = LogPage { as_of: ports.now(), newest: 0, from: 0, overflows: false, entries: entries.to_vec() };
    let Some(text) = page.to_json() else { return false };
    ports.append_log(&text).await
}

/// Returns the code of a fault for operators.
fn code(fault: Fault) -> &'static str {
    let codes = [
        (Fault::TimedOut, "log_timeout"),
        (Fault::BadStatus, "log_failed"),
        (Fault::TooLarge, "log_failed"),
        (Fault::NotBound, "log_not_bound"),
    ];
    codes.iter().find(|(known, _)| *known == fault).map_or("log_unreachable", |(_, code)| code)
}
