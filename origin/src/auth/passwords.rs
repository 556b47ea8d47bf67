//! Password hashing: argon2id with the parameters that OWASP recommends, on blocking threads,
//! behind the [`HashQueue`]. A login without an account costs as much time as one with.

use std::{sync::Arc, time::Instant};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::SaltString,
};
use portcullis_client::secret::Secret;

use super::hash_queue::{Busy, HashQueue, Permit, Priority};
use crate::{
    fields::normal_password,
    http::{ApiError, Metrics},
    limits,
};

/// OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Passwords {
    queue: HashQueue,
    /// Hash of a random password: verified in place of the hash of an account that does not exist.
    dummy_hash: Arc<str>,
    metrics: Option<Metrics>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passwords(..)")
    }
}

impl From<Busy> for ApiError {
    fn from(_: Busy) -> Self {
        Self::unavailable("login_busy", "Authentication service unavailable")
    }
}

impl Passwords {
    /// Computes the dummy hash.
    ///
    /// # Errors
    /// [`Busy`] when hashing fails.
    pub async fn new() -> Result<Self, Busy> {
        let dummy_hash = tokio::task::spawn_blocking(|| hash(&random_text()?)).await.map_err(|_| Busy)??;
        Ok(Self { queue: HashQueue::new(limits::HASHES), dummy_hash: dummy_hash.into(), metrics: None })
    }

    /// Records the time of each hash.
    #[must_use]
    pub fn timed_by(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Hashes a password into a PHC string.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: &Secret, priority: Priority) -> Result<String, Busy> {
        let password = normal_password(password);
        self.acquire(priority).await?.run(move || hash(&password)).await.map(|(done, _)| done)
    }

    /// Waits for the permit to hash. For callers that check something again before they use it.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn acquire(&self, priority: Priority) -> Result<HashPermit, Busy> {
        // argon2 is expensive by design: unbounded, a flood of logins would exhaust the machine.
        let permit = self.queue.acquire(priority).await?;
        Ok(HashPermit { permit, dummy_hash: Arc::clone(&self.dummy_hash), metrics: self.metrics.clone() })
    }
}

/// Allows its holder to hash until it is dropped.
pub struct HashPermit {
    permit: Permit,
    dummy_hash: Arc<str>,
    metrics: Option<Metrics>,
}

impl HashPermit {
    /// Verifies a password against a PHC string, and returns the permit.
    ///
    /// Without a hash (there is no such account) the password is verified against the dummy hash
    /// and is wrong, so that the time does not reveal whether the account exists.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(self, password: &Secret, hashed: Option<&str>) -> Result<(bool, Self), Busy> {
        let password = password.clone();
        let known = hashed.is_some();
        let hashed = hashed.unwrap_or(&self.dummy_hash).to_owned();
        let dummy_hash = Arc::clone(&self.dummy_hash);
        let compare = move || {
            let usable = parse(&hashed);
            if usable.is_none() {
                tracing::error!("a stored password hash cannot be used; its account cannot log in");
            }
            let text = if usable.is_some() { &*hashed } else { &*dummy_hash };
            let parsed = PasswordHash::new(text).map_err(|_| Busy)?;
            let is_hashed = |password: &Secret| {
                Ok::<_, Busy>(hasher()?.verify_password(password.expose().as_bytes(), &parsed).is_ok())
            };
            let normal = normal_password(&password);
            // Older hashes were made of passwords that were not normalised.
            let right = is_hashed(&normal)? || (normal != password && is_hashed(&password)?);
            Ok(right && usable.is_some())
        };
        let (right, permit) = self.run(compare).await?;
        Ok((right && known, permit))
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Busy> + Send + 'static,
    ) -> Result<(T, Self), Busy> {
        // The permit moves into the thread: it is held while the hash is computed, even if the
        // caller has gone.
        let timed = move || {
            let begun = Instant::now();
            let outcome = work();
            let used = begun.elapsed();
            self.permit.record(used);
            if let Some(metrics) = &self.metrics {
                metrics.password_hash(used);
            }
            outcome.map(|done| (done, self))
        };
        tokio::task::spawn_blocking(timed).await.map_err(|_| Busy)?
    }
}

/// Whether a hash was made with weaker parameters than today's. Only a login, which has the
/// password, can replace it.
pub(super) fn is_outdated(hashed: &str) -> bool {
    parse(hashed).is_some_and(|(algorithm, params)| {
        algorithm != Algorithm::Argon2id
            || params.m_cost() < MEMORY_KIB
            || params.t_cost() < PASSES
            || params.p_cost() < LANES
    })
}

/// Reads algorithm and parameters of a hash. `None` beyond the bounds: a database row must not
/// decide how much memory and time a login takes.
fn parse(hashed: &str) -> Option<(Algorithm, Params)> {
    let parsed = PasswordHash::new(hashed).ok()?;
    let algorithm = Algorithm::try_from(parsed.algorithm).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    let within = params.m_cost() <= limits::HASH_MEMORY_KIB_MAX
        && params.t_cost() <= limits::HASH_PASSES_MAX
        && params.p_cost() <= limits::HASH_LANES_MAX;
    within.then_some((algorithm, params))
}

fn hasher() -> Result<Argon2<'static>, Busy> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| Busy)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &Secret) -> Result<String, Busy> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Busy)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| Busy)?;
    let hashed = hasher()?.hash_password(password.expose().as_bytes(), &salt).map_err(|_| Busy)?;
    Ok(hashed.to_string())
}

fn random_text() -> Result<Secret, Busy> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Busy)?;
    Ok(Secret::new(uuid::Uuid::from_bytes(bytes).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_outdated_by_any_lower_figure_and_used_within_bounds() {
        let tail = "$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
        for (head, usable, outdated) in [
            ("$argon2id$v=19$m=19456,t=2,p=1", true, false),
            ("$argon2id$v=19$m=65536,t=3,p=4", true, false),
            ("$argon2id$v=19$m=19455,t=2,p=1", true, true),
            ("$argon2id$v=19$m=19456,t=1,p=1", true, true),
            ("$argon2i$v=19$m=19456,t=2,p=1", true, true),
            ("$argon2id$v=19$m=4194304,t=2,p=1", false, false),
            ("$argon2id$v=19$m=19456,t=4000000,p=1", false, false),
            ("$argon2id$v=19$m=19456,t=2,p=64", false, false),
            ("$argon2id$v=19$m=19456,t=2,p=0", false, false),
            ("$scrypt$ln=16,r=8,p=1", false, false),
            ("", false, false),
        ] {
            let text = format!("{head}{tail}");
            assert_eq!((parse(&text).is_some(), is_outdated(&text)), (usable, outdated), "{head}");
        }
    }
}
