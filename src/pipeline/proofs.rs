//! Proofs of possession (RFC 9449): whether the sender of a request owns the token in it.
//!
//! A proof names the gateway's own URL, never the request's `Host`, which can be forged. Each proof is accepted once
//! by an isolate, which remembers those that it has accepted for as long as they are valid.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::HashSet,
    mem,
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    assertion::{SECRETS_FORM, parse_secrets},
    authenticator::AuthenticatedToken,
    credentials,
    denial::Denial,
    head::Head,
    limits,
    ports::{KeyOwner, ProofLog, Runtime, SignatureVerifier},
    settings::{Misconfiguration, Settings},
};
use portcullis_policy::{Policy, Proof as Wanted, Target};
use portcullis_token::{ExpectedProof, PROOF_ALGORITHMS, ProofError, ProofId, UnixMillis, object, parse_proof};

/// Header with the nonce for a client's next proof (RFC 9449, section 8).
pub(super) const NONCE_HEADER: &str = "dpop-nonce";

/// The secret of nonces.
const NONCE_KEYS: &str = "DPOP_NONCE_KEYS";

/// Checks proofs, and remembers them.
pub(super) struct ProofVerifier {
    /// The gateway's own URL: scheme, host and port.
    public_url: String,
    /// `algs` of challenges.
    algorithms: String,
    used: Rc<RefCell<UsedProofs>>,
    /// The states behind the secrets of nonces. The first makes them; empty without nonces.
    nonce_keys: Vec<Hmac<Sha256>>,
}

/// A proof that was verified, and is not yet used.
#[derive(Clone, Copy)]
pub(super) struct Proof {
    id: ProofId,
    /// Whether the client needs a newer nonce.
    pub(super) has_old_nonce: bool,
}

/// The proofs that were used, in two generations. Each proof stays for one at least, so none is forgotten before it
/// has expired.
#[derive(Default)]
struct UsedProofs {
    /// When the newer generation began.
    since: UnixMillis,
    newer: HashSet<ProofId>,
    older: HashSet<ProofId>,
    /// How many of the newer ones are of each account, by a part of its hash.
    of_accounts: Vec<u16>,
}

impl UsedProofs {
    fn has(&self, proof: &ProofId) -> bool {
        self.older.contains(proof) || self.newer.contains(proof)
    }
}

impl ProofVerifier {
    /// Returns the verifier of a policy that asks for proofs.
    ///
    /// # Errors
    /// `PUBLIC_URL` is not a URL, or plain HTTP outside development; the secret of nonces is malformed.
    pub(super) fn new(policy: &Policy, settings: &Settings<'_>) -> Result<Option<Box<Self>>, Misconfiguration> {
        if !policy.has_proofs() {
            return Ok(None);
        }
        let Some(public_url) = settings.public_url(policy)? else { return Ok(None) };
        let fault = || Misconfiguration(format!("secret {NONCE_KEYS} {SECRETS_FORM}"));
        let text = settings.non_empty(NONCE_KEYS);
        let secrets = text.as_deref().map_or(Some(Vec::new()), parse_secrets).ok_or_else(fault)?;
        let nonce_keys = secrets.iter().map(|(_, secret)| Hmac::new_from_slice(secret));
        let nonce_keys = nonce_keys.collect::<Result<_, _>>().map_err(|_| fault())?;
        let algorithms = PROOF_ALGORITHMS.map(|algorithm| algorithm.name()).join(" ");
        Ok(Some(Box::new(Self { public_url, algorithms, used: Rc::default(), nonce_keys })))
    }

    /// Verifies the proof of a request with the token `text`, which is bound to the key of thumbprint `key`. The caller
    /// has to [`Self::check_unused`] and [`Self::note`] it.
    pub(super) async fn verify(
        &self,
        (head, path): (&Head, &str),
        (text, token, key): (&str, &AuthenticatedToken, &str),
        ports: &(impl Runtime + SignatureVerifier),
    ) -> Result<Proof, Denial> {
        // Two header lines arrive as one value with a comma, which no proof has.
        let proof = parse_proof(head.header("dpop").ok_or(ProofError::Missing)?)?;
        // First, because only the owner of the token's key can cause the arithmetic of the next steps.
        if proof.unverified_thumbprint() != key {
            return Err(ProofError::WrongKey.into());
        }
        let known =
            token.proof_key.borrow().as_ref().filter(|known| known.algorithm == proof.algorithm()).map(Rc::clone);
        let known = match known {
            Some(known) => known,
            None => Rc::clone(token.proof_key.borrow_mut().insert(Rc::new(proof.key()?))),
        };
        let (algorithm, input) = (proof.algorithm(), proof.signing_input());
        let checked = ports.check_signature((&known, KeyOwner::Client), algorithm, input, proof.signature()).await;
        let outcome = checked.map_err(|_| Denial::BackendUnavailable)?;
        let (now, has_old_nonce) = (ports.now(), Cell::new(false));
        let is_nonce = |nonce: &str| {
            let window = now.0 / limits::NONCE_MS;
            has_old_nonce.set(!self.is_nonce(nonce, window));
            !has_old_nonce.get() || self.is_nonce(nonce, window.saturating_sub(1))
        };
        let expected = ExpectedProof {
            method: &head.method,
            is_url: &|url| is_url_of(&self.public_url, path, url),
            token: Some(text),
            is_nonce: if self.nonce_keys.is_empty() { None } else { Some(&is_nonce) },
        };
        let id = proof.admit(outcome, &expected, now)?.id();
        Ok(Proof { id, has_old_nonce: has_old_nonce.get() })
    }

    /// Returns the nonce for proofs of the next time; `None` without nonces. It is the same for all clients, and says
    /// when it was made.
    pub(super) fn nonce(&self, now: UnixMillis) -> Option<String> {
        self.nonce_keys.first().map(|key| nonce_of(key, now.0 / limits::NONCE_MS))
    }

    fn is_nonce(&self, nonce: &str, window: u64) -> bool {
        self.nonce_keys.iter().any(|key| nonce_of(key, window) == nonce)
    }

    /// Remembers the proofs that another verifier has accepted, and will accept.
    pub(super) fn share_memory_of(&mut self, other: &Self) {
        self.used = Rc::clone(&other.used);
    }

    fn used_at(&self, now: UnixMillis) -> RefMut<'_, UsedProofs> {
        let mut used = self.used.borrow_mut();
        if now.abs_diff(used.since) >= limits::PROOF_MEMORY_MS {
            used.older = mem::take(&mut used.newer);
            used.of_accounts.clear();
            used.since = now;
        }
        used
    }

    /// Checks that a proof was not used before.
    ///
    /// # Errors
    /// [`ProofError::Replayed`].
    pub(super) fn check_unused(&self, proof: Proof, now: UnixMillis) -> Result<(), ProofError> {
        if self.used_at(now).has(&proof.id) { Err(ProofError::Replayed) } else { Ok(()) }
    }

    /// Notes the use of a proof by an account: its issuer, and the user's id.
    ///
    /// # Errors
    /// [`ProofError::Replayed`]: the same proof may have come twice at once. [`Denial::RateLimited`] beyond the account's
    /// share of the memory. [`Denial::ProofsUnavailable`] if the memory is full: a proof that is forgotten could be used
    /// again.
    pub(super) fn note(&self, proof: Proof, (issuer, user): (&str, &str), now: UnixMillis) -> Result<(), Denial> {
        let used = &mut *self.used_at(now);
        if used.has(&proof.id) {
            return Err(ProofError::Replayed.into());
        }
        let hash = Sha256::digest([issuer, "\n", user].concat());
        let index = hash.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
        used.of_accounts.resize(limits::PROOF_ACCOUNTS, 0);
        let count = used.of_accounts.get_mut(usize::from(index)).ok_or(Denial::ProofsUnavailable)?;
        if *count >= limits::PROOFS_OF_ACCOUNT {
            let left_ms = used.since.plus(limits::PROOF_MEMORY_MS).since(now);
            return Err(Denial::RateLimited { retry_s: left_ms.div_ceil(1000).max(1) });
        }
        if used.newer.len() >= limits::PROOFS {
            return Err(Denial::ProofsUnavailable);
        }
        *count = count.saturating_add(1);
        used.newer.insert(proof.id);
        Ok(())
    }

    /// Returns the state for `/status`.
    pub(super) fn status(&self) -> Value {
        let used = self.used.borrow();
        let remembered = used.newer.len().saturating_add(used.older.len());
        object([("remembered", remembered.into()), ("nonces", (!self.nonce_keys.is_empty()).into())])
    }

    /// Turns the challenge for bearer tokens into one for the scheme of the request, or for both schemes if it had none
    /// (RFC 9449, section 7.1). `least` and `most` are what the route asks of its issuers' tokens.
    pub(super) fn extend_challenge(
        &self,
        challenge: &mut String,
        head: &Head,
        (least, most): (Option<Wanted>, Option<Wanted>),
    ) {
        if most.is_none() {
            return;
        }
        let of_dpop = |parameters: &str| ["DPoP ", parameters, ", algs=\"", &self.algorithms, "\""].concat();
        if let Some(parameters) = challenge.strip_prefix("Bearer ")
            && (least == Some(Wanted::Required) || credentials::has_dpop_scheme(head))
        {
            *challenge = of_dpop(parameters);
        } else {
            challenge.extend([", ", &of_dpop(r#"realm="portcullis""#)]);
        }
    }
}

/// Notes the use of a proof for all isolates.
///
/// # Errors
/// As [`ProofVerifier::note`].
pub(super) async fn note_everywhere(Proof { id, .. }: Proof, log: &impl ProofLog) -> Result<(), Denial> {
    let keep_until = log.now().plus(limits::PROOF_MEMORY_MS);
    let is_first = log.note_proof(&URL_SAFE_NO_PAD.encode(id), keep_until).await;
    let is_first = is_first.map_err(|_| Denial::ProofsUnavailable)?;
    if is_first { Ok(()) } else { Err(ProofError::Replayed.into()) }
}

fn nonce_of(key: &Hmac<Sha256>, window: u64) -> String {
    let mac = key.clone().chain_update(b"dpop-nonce").chain_update(window.to_be_bytes()).finalize().into_bytes();
    let short = mac.first_chunk::<16>().copied().unwrap_or_default();
    URL_SAFE_NO_PAD.encode(short)
}

/// Returns whether a certificate has a thumbprint (RFC 8705, section 3.1). The platform has it in hexadecimal.
pub(super) fn is_thumbprint_of(thumbprint: &str, certificate: &str) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = certificate.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    let bytes = bytes.collect::<Option<Vec<u8>>>().filter(|bytes| rest.is_empty() && bytes.len() == 32);
    bytes.is_some_and(|bytes| URL_SAFE_NO_PAD.encode(bytes) == thumbprint)
}

/// Returns whether `url` is that of a path of the gateway. Query and fragment do not count (RFC 9449, section 4.3), and
/// spellings that mean the same are the same (RFC 3986, sections 6.2.2 and 6.2.3).
fn is_url_of(public_url: &str, path: &str, url: &str) -> bool {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let authority_at = url.find("://").map_or(0, |at| at.saturating_add(3));
    let rest = url.get(authority_at..).unwrap_or_default();
    let path_at = rest.find('/').map_or(url.len(), |at| at.saturating_add(authority_at));
    let Some((base, own_path)) = url.split_at_checked(path_at) else { return false };
    let base = base.to_ascii_lowercase();
    let own_port = if base.starts_with("https:") { ":443" } else { ":80" };
    let own_path = if own_path.is_empty() { "/" } else { own_path };
    base.strip_suffix(own_port).unwrap_or(&base) == public_url
        && (own_path == path || Target::parse(own_path).is_ok_and(|target| target.path() == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(number: usize) -> Proof {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(number.to_le_bytes()) {
            *to = from;
        }
        Proof { id, has_old_nonce: false }
    }

    const BEGUN: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    fn verifier() -> ProofVerifier {
        ProofVerifier {
            public_url: String::new(),
            algorithms: String::new(),
            used: Rc::default(),
            nonce_keys: Vec::new(),
        }
    }

    #[test]
    fn a_full_memory_refuses_new_proofs_and_forgets_none() {
        let verifier = verifier();
        let note = |number: usize, passed_ms| {
            let user = (number % 64).to_string();
            verifier.note(proof(number), ("id", &user), BEGUN.plus(passed_ms))
        };
        for number in 0..limits::PROOFS {
            assert_eq!(note(number, 0), Ok(()));
        }
        assert_eq!(note(limits::PROOFS, 1), Err(Denial::ProofsUnavailable));
        assert_eq!(note(0, 1), Err(ProofError::Replayed.into()));
        // Still known in the next generation, which has room.
        assert_eq!(note(limits::PROOFS, limits::PROOF_MEMORY_MS), Ok(()));
        assert_eq!(note(0, limits::PROOF_MEMORY_MS), Err(ProofError::Replayed.into()));
        assert_eq!(note(0, 2 * limits::PROOF_MEMORY_MS), Ok(()));
    }

    #[test]
    fn an_account_has_a_share_of_the_memory() {
        let verifier = verifier();
        let note = |number, user, passed_ms| verifier.note(proof(number), ("id", user), BEGUN.plus(passed_ms));
        let share = usize::from(limits::PROOFS_OF_ACCOUNT);
        for number in 0..share {
            assert_eq!(note(number, "ada", 0), Ok(()));
        }
        let retry_s = limits::PROOF_MEMORY_MS / 1000;
        assert_eq!(note(share, "ada", 0), Err(Denial::RateLimited { retry_s }));
        assert_eq!(note(share, "ada", limits::PROOF_MEMORY_MS - 1), Err(Denial::RateLimited { retry_s: 1 }));
        assert_eq!(note(share, "eve", 0), Ok(()), "others have theirs");
        assert_eq!(note(share + 1, "ada", limits::PROOF_MEMORY_MS), Ok(()));
    }
}
