//! Every bound of the token room, with its unit and its reason.

/// Bytes of a whole compact token. Access tokens are 0.5-2 KB; 8 KB is what
/// common proxies allow one header line.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of the encoded header. `alg`, `kid` and `typ` need about 120; room is
/// left for the certificates some providers put there (they are ignored).
pub const HEADER_BYTES: usize = 4 * 1024;

/// Bytes of a decoded signature: RSA-8192 is 1,024 and the largest there is.
pub const SIGNATURE_BYTES: usize = 1024;

/// Bytes of `kid`. Thumbprints are 43, provider ids below 100; a longer one is
/// an attempt to fill memory, logs or cache keys.
pub const KID_BYTES: usize = 256;

/// Nested arrays or objects in header or payload. Real tokens have two or
/// three; the bound keeps the recursive parser's stack small.
pub const JSON_DEPTH: usize = 16;

/// Bytes of a user id, an e-mail address (RFC 5321 allows 254), a session or
/// token id. They become header values and log fields.
pub const CLAIM_BYTES: usize = 320;

/// Roles a token may carry; more do not fit one header line.
pub const ROLES: usize = 64;

/// Bytes of a role's name.
pub const ROLE_BYTES: usize = 64;

/// Scopes a token may carry.
pub const SCOPES: usize = 128;

/// Bytes of a scope's name; some are URLs.
pub const SCOPE_BYTES: usize = 256;

/// Values in an `aud` array.
pub const AUDIENCES: usize = 32;

/// Largest NumericDate taken, in seconds: the end of the year 9999. What is
/// beyond is a mistake of units or an attempt to overflow.
pub const DATE_SECS: u64 = 253_402_300_799;
