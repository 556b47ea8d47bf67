//! [`AuthClient`](crate::AuthClient) over HTTP.
//!
//! - *Time-outs*: 2 s to connect, 10 s for an exchange, 20 s for a call with its retries.
//! - *Retries*: at most two, with random, growing pauses, and at most a tenth of all calls. GET, PUT,
//!   read-only POSTs and calls with an `Idempotency-Key` (registering) are retried after 429, 502,
//!   503, 504, a time-out or a broken connection. Every other call, a login or a refresh included, is
//!   retried only if it was not sent. A `Retry-After` of up to 5 s is waited for; a longer one is
//!   returned to the caller.
//! - *Circuit breaker*: opens after five outages in a row (no connection, time-out, 502, 504, or 503
//!   without `Retry-After`). After 1 s one call tests the service; each test that fails doubles the
//!   period, up to 60 s. Other refusals, such as a wrong password, do not count.
//! - *Cache*: validated tokens, by their SHA-256, at most 4096, until they expire and for at most 30 s:
//!   the longest delay with which a program notices a revocation. Permissions and refusals are not
//!   cached. A logout by the same client takes effect at once.
//! - *Redirects* are not followed, and proxies of the environment are not used: tokens are sent to the
//!   base URL only, which is `https:`, or `http:` on a loopback address. Answers have at most 1 MB.
//!
//! Each can be set:
//!
//! ```
//! use std::time::Duration;
//! use portcullis_client::{ClientError, HttpAuthClient, http::{BreakerPolicy, CachePolicy, RetryPolicy}};
//!
//! fn client() -> Result<HttpAuthClient, ClientError> {
//!     HttpAuthClient::builder("https://api.example.com")
//!         .user_agent("stock-keeper/2.1")
//!         .call_timeout(Duration::from_secs(3))
//!         .retry(RetryPolicy { retries: 1, ..RetryPolicy::default() })
//!         .breaker(BreakerPolicy { outages: 3, rest: Duration::from_secs(10) })
//!         .cache(CachePolicy { longest: Duration::ZERO, ..CachePolicy::default() })
//!         .build()
//! }
//! ```
//!
//! # Metrics and logs
//!
//! Through the facades [`metrics`](https://docs.rs/metrics) and [`tracing`](https://docs.rs/tracing).
//! Each exchange counts, retries included. A success is logged at `debug`, a failure at `warn`.
//!
//! | name | labels |
//! |---|---|
//! | `auth_client_requests_total` | `method`, `endpoint` (the route's template), `status` (or `timeout`, `unreachable`, `connection_lost`, `breaker_open`) |
//! | `auth_client_request_duration_seconds` | `method`, `endpoint` |

mod base_url;
mod breaker;
mod builder;
mod cache;
mod client;
mod exchange;
mod retry;
mod transport;

pub use breaker::BreakerPolicy;
pub use builder::Builder;
pub use cache::CachePolicy;
pub use client::HttpAuthClient;
pub use retry::RetryPolicy;

pub(crate) use base_url::{Plaintext, parse_base_url};
pub(crate) use transport::{Transport, TransportConfig};
