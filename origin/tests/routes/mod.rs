//! Tests of one route each, by resource.

pub(crate) mod auth;
pub(crate) mod internal;
pub(crate) mod operations;
pub(crate) mod users;
