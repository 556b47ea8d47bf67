//! The policy of a gateway: `gateway.toml`, its checks, and the decisions that it makes about a
//! request's path and its caller. Performs no I/O.

pub mod config;
pub mod route;
