//! What both services do with HTTP: errors as problem documents, extractors
//! that read bodies strictly, and the layer that knows who a request is from.

mod client;
mod direct;
mod drain;
mod error;
mod gate;
mod idempotency;
mod metrics;
pub mod openapi;
mod page;
mod precondition;
mod read;
mod service;
mod starting;

pub use client::Client;
pub use direct::{Admission, Peer, admit, bearer, run_direct};
pub use drain::read_to_end;
pub use error::{ApiError, FieldError, Refused, log_store_fault, store_fault_kind};
pub use gate::{Gate, User, observe, require_assertion};
pub use idempotency::IdempotencyKey;
pub use metrics::{Metrics, measure};
pub use page::{AskedPage, Page, Pagination};
pub use precondition::{IfMatch, IfNoneMatch, etag_header};
pub use read::{Body, Id, Ids, Json, MergePatch, OptionalJson, credentials};
pub use service::{ServiceClaims, ServiceRule, ServiceVerifier, require_service};
pub use starting::starting;
