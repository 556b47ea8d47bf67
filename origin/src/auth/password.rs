//! Password hashing: argon2id at OWASP's figures, on threads of its own, a few
//! at a time. A login for nobody costs as much as one for somebody.

use std::{sync::Arc, time::Instant};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::SaltString,
};
use portcullis_client::secret::Secret;

use super::turns::{Permit, Priority, Turns};
use crate::{
    fields::normal_password,
    http::{ApiError, Metrics},
    limits,
};

/// OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes passwords.
#[derive(Clone)]
pub struct Passwords {
    turns: Turns,
    /// The hash of a password that nobody has.
    nobody: Arc<str>,
    metrics: Option<Metrics>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passwords(..)")
    }
}

/// No turn within the time, or hashing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl From<Busy> for ApiError {
    fn from(_: Busy) -> Self {
        Self::unavailable("login_busy", "Authentication service unavailable")
    }
}

impl Passwords {
    /// Prepares the hash of nobody.
    ///
    /// # Errors
    /// [`Busy`] when hashing does not work at all.
    pub async fn new() -> Result<Self, Busy> {
        let turns = Turns::new(limits::HASHES);
        let nobody = tokio::task::spawn_blocking(|| hash(&random_text()?)).await.map_err(|_| Busy)??;
        Ok(Self { turns, nobody: nobody.into(), metrics: None })
    }

    /// With each hash timed.
    #[must_use]
    pub fn timed_by(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The PHC string of a password.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: &Secret, priority: Priority) -> Result<String, Busy> {
        let password = normal_password(password);
        self.turn(priority).await?.work(move || hash(&password)).await.map(|(done, _)| done)
    }

    /// A turn to hash, for who has to look at something once more before.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn turn(&self, priority: Priority) -> Result<Turn, Busy> {
        // argon2 is made to cost; without turns it is an attack on ourselves.
        let turn = self.turns.take(priority).await?;
        Ok(Turn { turn, nobody: Arc::clone(&self.nobody), metrics: self.metrics.clone() })
    }
}

/// One of the few that may hash now, until it is dropped.
pub struct Turn {
    #[expect(dead_code, reason = "held, and not looked at")]
    turn: Permit,
    nobody: Arc<str>,
    metrics: Option<Metrics>,
}

impl Turn {
    /// Whether a password is the one that was hashed. Without a hash (no such
    /// account) it is compared with nobody's and is wrong: who asks learns
    /// nothing from the time. Gives the turn back to its holder.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(self, password: &Secret, hashed: Option<&str>) -> Result<(bool, Self), Busy> {
        let password = password.clone();
        let known = hashed.is_some();
        let hashed = hashed.unwrap_or(&self.nobody).to_owned();
        let nobody = Arc::clone(&self.nobody);
        let compare = move || {
            let usable = parse(&hashed);
            if usable.is_none() {
                tracing::error!("a stored password hash cannot be used; its account cannot log in");
            }
            let text = if usable.is_some() { &*hashed } else { &*nobody };
            let parsed = PasswordHash::new(text).map_err(|_| Busy)?;
            let is_hashed = |password: &Secret| {
                Ok::<_, Busy>(hasher()?.verify_password(password.expose().as_bytes(), &parsed).is_ok())
            };
            let normal = normal_password(&password);
            // Hashes of before were made of passwords as they were written.
            let right = is_hashed(&normal)? || (normal != password && is_hashed(&password)?);
            Ok(right && usable.is_some())
        };
        let (right, turn) = self.work(compare).await?;
        Ok((right && known, turn))
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Busy> + Send + 'static,
    ) -> Result<(T, Self), Busy> {
        // The turn goes along: it lasts as long as the work, even if nobody waits for that.
        let timed = move || {
            let begun = Instant::now();
            let outcome = work();
            if let Some(metrics) = &self.metrics {
                metrics.password_hash(begun.elapsed());
            }
            outcome.map(|done| (done, self))
        };
        tokio::task::spawn_blocking(timed).await.map_err(|_| Busy)?
    }
}

/// Whether a hash was made at lower figures than today's. Only who knows the password can
/// make a better one.
pub(super) fn is_outdated(hashed: &str) -> bool {
    parse(hashed).is_some_and(|(algorithm, params)| {
        algorithm != Algorithm::Argon2id
            || params.m_cost() < MEMORY_KIB
            || params.t_cost() < PASSES
            || params.p_cost() < LANES
    })
}

/// Algorithm and figures of a hash, if it can be computed here: a row in the database must
/// not decide how much memory and time a login takes.
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
