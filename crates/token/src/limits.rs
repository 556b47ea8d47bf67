//! Every bound of the token room, with its unit and its reason.

/// Bytes of a whole compact token. Access tokens are 0.5-2 KB; one with 200 group ids
/// has 13 KB. The gate takes 32 KiB of headers.
pub const TOKEN_BYTES: usize = 16 * 1024;

/// Bytes of the encoded header. `alg`, `kid` and `typ` need about 120; room is
/// left for the certificates some providers put there (they are ignored).
pub const HEADER_BYTES: usize = 8 * 1024;

/// Bytes of a decoded signature: RSA-8192 is 1,024 and the largest there is.
pub const SIGNATURE_BYTES: usize = 1024;

/// Bytes of `kid`. Thumbprints are 43, provider ids below 100; a longer one is
/// an attempt to fill memory, logs or cache keys.
pub const KID_BYTES: usize = 256;

/// Nested arrays or objects in header or payload. Real tokens have two or
/// three; the bound keeps the recursive parser's stack small.
pub const JSON_DEPTH: usize = 16;

/// Bytes of a user id (OpenID Connect allows 255; a Kubernetes service account has up to
/// 339), an e-mail address (RFC 5321 allows 254), a session or token id. They become
/// header values and log fields.
pub const CLAIM_BYTES: usize = 512;

/// Roles a token may carry. Providers put 200 groups into one at most; the bound keeps a
/// token of one-letter roles from costing many times its size in memory.
pub const ROLES: usize = 1024;

/// Bytes of a role's name. Distinguished names of LDAP have up to 255 in practice.
pub const ROLE_BYTES: usize = 1024;

/// Scopes a token may carry.
pub const SCOPES: usize = 512;

/// Bytes of a scope's name; some are URLs.
pub const SCOPE_BYTES: usize = 256;

/// Values in an `aud` array. Some providers list every application of a project.
pub const AUDIENCES: usize = 256;

/// Largest NumericDate taken, in seconds: the end of the year 9999. What is
/// beyond is a mistake of units or an attempt to overflow.
pub const DATE_SECS: u64 = 253_402_300_799;

/// The same as a number with a fraction; exact, since it is below 2^53.
pub const DATE_SECS_F64: f64 = 253_402_300_799.0;
