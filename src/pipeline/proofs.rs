//! Proofs of possession (RFC 9449): whether the sender of a request owns the token in it.
//!
//! A proof names the gateway's own URL, never the request's `Host`, which can be forged. Each proof is accepted once
//! by an isolate, which remembers those that it has accepted for as long as they are valid.

use std::{cell::RefCell, collections::HashSet, mem, rc::Rc};

use super::{
    authenticator::AuthenticatedToken,
    credentials,
    denial::Denial,
    head::Head,
    limits,
    ports::{Runtime, SignatureVerifier},
    settings::{Misconfiguration, Settings},
};
use portcullis_policy::{Policy, Proof, Target};
use portcullis_token::{ExpectedProof, PROOF_ALGORITHMS, ProofError, ProofId, UnixMillis, parse_proof};

/// Checks proofs, and remembers them.
pub(super) struct ProofVerifier {
    /// The gateway's own URL: scheme, host and port.
    public_url: String,
    /// `algs` of challenges.
    algorithms: String,
    used: RefCell<UsedProofs>,
}

/// The proofs that were used, in two generations. Each proof stays for one at least, so none is forgotten before it
/// has expired.
#[derive(Default)]
struct UsedProofs {
    /// When the newer generation began.
    since: UnixMillis,
    newer: HashSet<ProofId>,
    older: HashSet<ProofId>,
}

impl ProofVerifier {
    /// Returns the verifier of a policy that asks for proofs.
    ///
    /// # Errors
    /// `PUBLIC_URL` is not a URL, or plain HTTP outside development.
    pub(super) fn new(policy: &Policy, settings: &Settings<'_>) -> Result<Option<Box<Self>>, Misconfiguration> {
        if !policy.has_proofs() {
            return Ok(None);
        }
        let Some(public_url) = settings.public_url(policy)? else { return Ok(None) };
        let algorithms = PROOF_ALGORITHMS.map(|algorithm| algorithm.name()).join(" ");
        Ok(Some(Box::new(Self { public_url, algorithms, used: RefCell::default() })))
    }

    /// Verifies the proof of a request with the token `text`, which is bound to the key of thumbprint `key`. The caller
    /// has to [`Self::note`] it.
    pub(super) async fn verify(
        &self,
        (head, path): (&Head, &str),
        (text, token, key): (&str, &AuthenticatedToken, &str),
        ports: &(impl Runtime + SignatureVerifier),
    ) -> Result<ProofId, Denial> {
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
        let checked = ports.check_signature(&known, proof.algorithm(), proof.signing_input(), proof.signature()).await;
        let outcome = checked.map_err(|_| Denial::BackendUnavailable)?;
        let expected =
            ExpectedProof { method: &head.method, is_url: &|url| is_url_of(&self.public_url, path, url), token: text };
        Ok(proof.admit(outcome, &expected, ports.now())?.id())
    }

    /// Notes the use of a proof.
    ///
    /// # Errors
    /// [`ProofError::Replayed`]. [`Denial::ProofsUnavailable`] if the memory is full: a proof that is forgotten
    /// could be used again.
    pub(super) fn note(&self, proof: ProofId, now: UnixMillis) -> Result<(), Denial> {
        let used = &mut *self.used.borrow_mut();
        if now.abs_diff(used.since) >= limits::PROOF_MEMORY_MS {
            used.older = mem::take(&mut used.newer);
            used.since = now;
        }
        if used.older.contains(&proof) || used.newer.contains(&proof) {
            return Err(ProofError::Replayed.into());
        }
        if used.newer.len() >= limits::PROOFS {
            return Err(Denial::ProofsUnavailable);
        }
        used.newer.insert(proof);
        Ok(())
    }

    /// Returns how many proofs are remembered.
    pub(super) fn count(&self) -> usize {
        let used = self.used.borrow();
        used.newer.len().saturating_add(used.older.len())
    }

    /// Turns the challenge for bearer tokens into one for the scheme of the request, or for both schemes if it had none
    /// (RFC 9449, section 7.1). `least` and `most` are what the route asks of its issuers' tokens.
    pub(super) fn extend_challenge(
        &self,
        challenge: &mut String,
        head: &Head,
        (least, most): (Option<Proof>, Option<Proof>),
    ) {
        if most.is_none() {
            return;
        }
        let of_dpop = |parameters: &str| ["DPoP ", parameters, ", algs=\"", &self.algorithms, "\""].concat();
        if let Some(parameters) = challenge.strip_prefix("Bearer ")
            && (least == Some(Proof::Required) || credentials::has_dpop_scheme(head))
        {
            *challenge = of_dpop(parameters);
        } else {
            challenge.extend([", ", &of_dpop(r#"realm="portcullis""#)]);
        }
    }
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
