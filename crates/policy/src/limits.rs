//! Every bound of a policy and of a request's path, with its unit and its reason. Validation, the JSON
//! Schema, the reference page and the messages use these constants.

use std::ops::RangeInclusive;

/// The numbers that an option takes.
pub type Bounds = RangeInclusive<u64>;

/// The format of policy documents that this version reads.
pub const VERSION: u32 = 1;

/// Routes. At a thousand bytes each, more do not fit into an isolate.
pub const ROUTES: usize = 20_000;

/// Issuers, upstreams, limits and CORS policies: each.
pub const TABLES: usize = 1_000;

/// Protected resources. Each route is compared with each when the Worker starts.
pub const RESOURCES: usize = 100;

/// Templates of refusals. Each may have a page of [`PAGE_BYTES`], and each isolate keeps all.
pub const REFUSALS: usize = 16;

/// Bytes of a page of a template: a page with its style and a small image. Each refusal sends it.
pub const PAGE_BYTES: usize = 32 * 1024;

/// Bytes of a JSON template, as JSON.
pub const REFUSAL_JSON_BYTES: usize = 8 * 1024;

/// Placeholders of a template: with values of some hundred bytes each, they bound the size of an answer.
pub const PLACEHOLDERS: usize = 50;

/// Bytes of a name. Names become metric labels and parts of the names of secrets.
pub const NAME_BYTES: usize = 40;

/// Bytes of a text without a bound of its own: a pattern, a role, a scope, an audience, an origin, a URL,
/// the name of a claim or of a type. As many as a token's roles may have.
pub const TEXT_BYTES: usize = portcullis_token::limits::ROLE_BYTES;

/// Bytes of a header's name. The longest registered ones have about 50.
pub const HEADER_NAME_BYTES: usize = 100;

/// Seconds. With more leeway, `exp` means little.
pub const LEEWAY_S: Bounds = 0..=300;

/// Seconds, at most a week: the longest that providers of short-lived access tokens offer.
/// Revocations are kept for as long.
pub const LIFETIME_S: Bounds = 1..=604_800;

/// Tenants of one issuer.
pub const TENANTS: usize = 1_000;

/// Headers in which tokens arrive, of all issuers together: each request is searched for them.
pub const TOKEN_HEADERS: usize = 16;

/// Headers in which tokens arrive or services get claims, of the whole policy: every request's headers are compared with
/// each of them.
pub const PRIVATE_HEADERS: usize = 100;

/// Keys in a policy, of all issuers together. Checking one takes up to 0.5 ms, twice at the start of each isolate.
pub const POLICY_KEYS: usize = 256;

/// Bytes of a tenant's id.
pub const TENANT_BYTES: usize = 64;

/// Names that lead to a claim. No known provider nests deeper than three.
pub const CLAIM_DEPTH: usize = 8;

/// Bytes of a string that a claim is compared with. Tokens' claims are kept for access rules up to
/// [`portcullis_token::limits::CLAIM_BYTES`], which is more.
pub const CLAIM_VALUE_BYTES: usize = 320;

/// Milliseconds. Clients give up earlier.
pub const TIMEOUT_MS: Bounds = 1..=120_000;

/// Milliseconds, at most an hour. Longer uploads belong into parts.
pub const BODY_TIMEOUT_MS: Bounds = 1..=3_600_000;

/// Milliseconds, at most an hour.
pub const IDLE_TIMEOUT_MS: Bounds = 1..=3_600_000;

/// More attempts make an outage worse.
pub const RETRIES: Bounds = 0..=3;

/// Requests; far above what one isolate can hold.
pub const CONCURRENT: Bounds = 1..=100_000;

/// Targets of one upstream. More belong behind a load balancer.
pub const TARGETS: usize = 16;

/// Bytes of the name of a binding.
pub const BINDING_BYTES: usize = 64;

/// Relative share of the requests.
pub const WEIGHT: Bounds = 1..=1_000;

/// Outages in a row. A higher threshold would be no circuit breaker.
pub const BREAKER_FAILURES: Bounds = 1..=1_000;

/// Seconds, at most an hour.
pub const BREAKER_OPEN_S: Bounds = 1..=3_600;

/// Seconds, at most a day.
pub const MAINTENANCE_S: Bounds = 1..=86_400;

/// Bytes: what the platform accepts on its largest plan.
pub const BODY_BYTES: Bounds = 0..=500 * 1024 * 1024;

/// Names in one list of roles, scopes, audiences, algorithms, types, methods, origins or headers, and
/// values of a claim. Requests search these lists from their beginning.
pub const NAMES: usize = 100;

/// Rules of one `any` or `all`, and rules for the claims of one issuer. Requests try one after the other.
pub const ACCESS_RULES: usize = 100;

/// Limits of one route. Each costs a request a question to a counter.
pub const ROUTE_LIMITS: usize = 10;

/// Claims of a token that a service gets. More belong into the service's own data.
pub const ASSERTED_CLAIMS: usize = 16;

/// Headers that one rule sets, and headers that it removes.
pub const HEADER_RULES: usize = 20;

/// Bytes of a header value that a rule sets.
pub const HEADER_VALUE_BYTES: usize = 1_024;

/// Seconds since a login, at most 30 days: sessions hardly last longer.
pub const MAX_AGE_S: Bounds = 1..=2_592_000;

/// Milliseconds for a decision or an introspection. Each request waits for it.
pub const BACKCHANNEL_TIMEOUT_MS: Bounds = 1..=10_000;

/// Seconds for which a decision is used. A permission that is taken away lasts as long.
pub const AUTHORIZER_CACHE_S: Bounds = 0..=300;

/// Characters of the prefix of API keys: enough to tell products apart, and short in a key.
pub const API_KEY_PREFIX_BYTES: RangeInclusive<usize> = 2..=16;

/// Seconds for which an introspection is used. A token that is ended is accepted for as long.
pub const INTROSPECTION_CACHE_S: Bounds = 1..=300;

/// Levels of `any` and `all`. People cannot read deeper rules.
pub const ACCESS_DEPTH: usize = 4;

/// Comparisons of two rules within two access rules. Each `all` is compared with each `any`, so wide
/// rules would take minutes.
pub const ACCESS_COMPARISONS: u32 = 10_000;

/// Bytes of the reason for `variants = { allow = … }`: a sentence.
pub const REASON_BYTES: usize = 300;

/// Reported routes whose rule other paths bypass. Thousands of such routes would have millions of them.
pub const BYPASSES: usize = 100;

/// Defined names in the message about an unknown one.
pub const NAMES_SHOWN: usize = 20;

/// Steps of the search for routes that lead to the same path of a service: segments that it visits, pairs and forms
/// of their paths, and comparisons of their rules.
pub const SEARCH_STEPS: u32 = 1_000_000;

/// Seconds. The runtime counts in periods of 10 or 60 seconds.
pub const RETRY_AFTER_S: Bounds = 1..=3_600;

/// Seconds. Browsers keep a preflight answer for a day at most.
pub const CORS_AGE_S: Bounds = 0..=86_400;

/// Seconds. Isolates renew their copy every few seconds; one late renewal is no outage yet.
pub const REVOCATION_AGE_S: Bounds = 5..=3_600;

/// Longest path of a request in bytes. Real ones are below 500; common servers accept 8 KB for the whole
/// line.
pub const PATH_BYTES: usize = 4 * 1024;

/// Longest query of a request in bytes.
pub const QUERY_BYTES: usize = 8 * 1024;

/// Layers of percent-encoding that are decoded in search of separators. Honest clients use two at most.
pub const ESCAPE_LAYERS: usize = 4;
