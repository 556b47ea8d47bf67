//! The pipeline of a request: its steps in their order, and the services that the steps use.
//!
//! Start with `steps.rs`. An `Exchange` is the context of one request; a [`Gateway`] holds the
//! policy and the services, each with a state and [`ports`] of its own. Nothing here knows the
//! runtime: tests run the whole pipeline with fakes behind the ports.

mod answer;
mod answer_plan;
mod api_key_push;
mod api_keys;
mod assertion;
mod authenticator;
mod authorizer;
mod backchannel;
mod cors;
mod credentials;
mod denial;
mod endpoints;
mod event_receiver;
mod events;
mod exchange;
mod findings;
mod gateway;
mod head;
mod headers;
mod introspector;
mod issuer;
mod limited_cache;
pub mod limits;
mod log;
mod metrics;
mod operators;
mod permits;
pub mod ports;
mod proofs;
mod rate_limiter;
mod references;
mod refusals;
mod resources;
mod revocation_checker;
mod settings;
mod spans;
mod status;
mod steps;
mod trace;
mod upstream;
mod validation;
pub mod wire;

pub use answer::Answer;
pub use answer_plan::AnswerPlan;
pub use denial::Denial;
pub use findings::Finding;
pub use gateway::{Gateway, PolicyOrigin};
pub use head::Head;
pub use log::LogRecord;
pub use ports::{BackgroundTask, KeyTask};
pub use settings::Misconfiguration;
pub use steps::{Handled, Outcome, handle_refused};
