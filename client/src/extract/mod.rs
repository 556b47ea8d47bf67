//! What an axum origin behind the gateway asks of a request, checked once and read
//! by extractors: the gateway's word for it ([`gateway`]), or a calling service's
//! token ([`service`]). Refusals are values first, so a service may render its own
//! errors; left alone they answer as problem documents (RFC 9457).

pub mod gateway;
#[cfg(feature = "jwks")]
mod jwks;
mod problem;
pub mod service;

pub use gateway::{BadGatewayUrl, Gate, GateRefusal, GatewayUrl, Verdict, record_assertion, require_assertion};
#[cfg(feature = "jwks")]
pub use jwks::BadServiceToken;
pub use service::{ServiceCaller, ServiceClaims, ServiceRefusal, ServiceRule, ServiceVerifier, require_service};
