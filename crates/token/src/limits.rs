//! Bounds of tokens, each with its unit and its reason.

/// Bytes of a whole compact token. Access tokens have 0.5 to 2 KB; one with 200 group ids has
/// 13 KB. All headers of a request may have 32 KiB.
pub const TOKEN_BYTES: usize = 16 * 1024;

/// Bytes of the encoded header. `alg`, `kid` and `typ` need about 120; the rest is for
/// certificates, which some providers put there (they are ignored).
pub const HEADER_BYTES: usize = 8 * 1024;

/// Bytes of a decoded signature: twice the 512 of RSA-4096, the largest key that is accepted.
pub const SIGNATURE_BYTES: usize = 1024;

/// Bytes of `kid`. Thumbprints have 43, providers' ids fewer than 100; a longer one could fill
/// memory, logs or cache keys.
pub const KID_BYTES: usize = 256;

/// Whether a text may be a `kid`.
pub(crate) fn is_key_id(kid: &str) -> bool {
    !kid.is_empty() && kid.len() <= KID_BYTES && !kid.chars().any(char::is_control)
}

/// Bytes of a SHA-256 in base64url.
const DIGEST_BYTES: usize = 43;

/// Whether a text can be a SHA-256 in base64url.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_BYTES && is_base64url(text)
}

/// Whether a text consists of the characters of base64url.
pub(crate) fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Random bytes of an API key: 160 bits cannot be guessed, and a digest of them needs no salt.
pub const API_KEY_RANDOM_BYTES: usize = 20;

/// Bytes of an API key's checksum: one of four billion mistyped keys passes it.
pub const API_KEY_CHECKSUM_BYTES: usize = 4;

/// Bytes of the body by which API keys are created and ended: [`API_KEY_CHANGES`] with the longest scopes that services use.
pub const API_KEYS_BYTES: usize = 256 * 1024;

/// Keys that one such body creates or ends. Each is a write to the store.
pub const API_KEY_CHANGES: usize = 100;

/// Seconds for which the end of an API key is kept in the revocation log and in the store: much longer than the store takes
/// to reach every location, and than caches keep a record. As long as revocations of the longest-lived tokens.
pub const API_KEY_END_S: u64 = 7 * 24 * 60 * 60;

/// Seconds for which the record of an API key is kept after its `exp`, so that its user learns that it has expired.
pub const API_KEY_EXPIRED_S: u64 = 24 * 60 * 60;

/// Bytes of a proof (DPoP). One with a P-256 key has 600, one with an RSA-4096 key 2 KB.
pub const PROOF_BYTES: usize = 4 * 1024;

/// Bytes of a proof's `jti`. A UUID has 36.
pub const PROOF_ID_BYTES: usize = 256;

/// Milliseconds for which a proof is accepted after it was made: slow networks, and clocks that are a little behind.
pub const PROOF_AGE_MS: u64 = 60 * 1000;

/// Milliseconds that a proof may have been made in the future: clocks that are a little ahead.
pub const PROOF_AHEAD_MS: u64 = 30 * 1000;

/// Nested arrays or objects in header or payload. Tokens have two or three; the bound keeps the
/// recursive parser's stack small.
pub const JSON_DEPTH: usize = 16;

/// Bytes of a user id (OpenID Connect allows 255; a Kubernetes service account has up to
/// 339), an e-mail address (RFC 5321 allows 254), a session or token id. They become header values and log fields.
pub const CLAIM_BYTES: usize = 512;

/// Values in a list that authorizers get of a claim. Each takes memory in the cache of tokens, also if it is short.
pub const CLAIM_VALUES: usize = 64;

/// Bytes of JSON of the claims of a token that a service gets. Node services accept 16 KB of headers, of which roles take
/// a part, too.
pub const ASSERTED_BYTES: usize = 4 * 1024;

/// Roles of a token. Providers put at most 200 groups into one; the bound keeps a token of
/// one-letter roles from taking many times its size in memory.
pub const ROLES: usize = 1024;

/// Bytes of a role's name. LDAP distinguished names have up to 255 in practice.
pub const ROLE_BYTES: usize = 1024;

/// Scopes of a token.
pub const SCOPES: usize = 512;

/// Bytes of a scope's name; some are URLs.
pub const SCOPE_BYTES: usize = 256;

/// Values in an `aud` array. Some providers list every application of a project.
pub const AUDIENCES: usize = 256;

/// Largest NumericDate, in seconds: the end of the year 9999. A larger one is a mistake of units or
/// an attempt to overflow.
pub const DATE_SECS: u64 = 253_402_300_799;
