//! What both services do with HTTP: errors as problem documents, extractors
//! that read bodies strictly, and the layer that knows who a request is from.

mod error;
mod gate;
mod json;
mod service;

pub use error::{ApiError, FieldError};
pub use gate::{Gate, RequestId, User, observe, require_assertion};
pub use json::Json;
pub use service::{ServiceClaims, ServiceRule, ServiceVerifier, require_service};
