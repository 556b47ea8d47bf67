//! Layers and extractors for axum services behind the gateway: the gateway's assertion ([`gateway`])
//! and the token of a calling service ([`service`]). Refusals are values, so that a service can render
//! its own errors; by default they are answered as problem documents (RFC 9457).

pub mod gateway;
#[cfg(feature = "jwks")]
mod jwks;
mod problem;
pub mod service;

pub use gateway::{BadGatewayUrl, Gate, GateRefusal, GatewayUrl, Verdict, record_assertion, require_assertion};
#[cfg(feature = "jwks")]
pub use jwks::BadServiceToken;
pub use service::{ServiceCaller, ServiceClaims, ServiceRefusal, ServiceRule, ServiceVerifier, require_service};
