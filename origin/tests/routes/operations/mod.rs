//! Routes for operators.

mod health;
mod metrics;
mod openapi;
