//! HTTP in both services: errors as problem documents, strict extractors, and the middlewares that
//! authenticate the gateway and services.

mod caller;
mod direct;
mod drain;
mod error;
mod form;
mod gateway;
mod idempotency;
mod metrics;
pub mod openapi;
mod page;
mod precondition;
mod read;
mod request_log;
mod service;
mod starting;

pub use caller::{AuthenticatedUser, Client};
pub use direct::{Admission, Peer, admit, bearer, run_direct};
pub use drain::read_to_end;
pub use error::{ApiError, FieldError, ReportedError};
pub use form::Form;
pub use gateway::{GatewayAuth, observe, require_assertion};
pub use idempotency::IdempotencyKey;
pub use metrics::{Metrics, measure};
pub use page::{AskedPage, Page, Pagination};
pub use precondition::{IfMatch, IfNoneMatch, etag_header};
pub use read::{Body, Id, Ids, Json, MergePatch, OptionalJson, credentials};
pub use service::{ServiceClaims, ServiceRule, ServiceVerifier, require_service};
pub use starting::starting;
