//! The services behind the gateway.
//!
//! - [`auth`]: accounts, passwords, sessions, tokens
//! - [`users`]: the profiles of users
//! - [`http`]: extractors, errors and middlewares of both services
//! - [`store`]: the databases, with the statements of each domain in one file
//! - [`signing`]: signing keys and signed tokens
//! - [`fields`]: validation and normalisation of user input; `profile`: the fields of a profile
//! - [`boot`], [`settings`], [`server`], [`tls`]: the start of a process and its listeners
//! - [`limits`], [`clock`], [`ids`], [`peers`], [`secret_file`], [`secret_hash`]: what the others use
//!
//! Identity comes from the gateway's assertion only (`portcullis_client::assertion`). No verification
//! code is shared with the gateway.

pub mod auth;
pub mod boot;
pub mod clock;
pub mod fields;
pub mod http;
pub mod ids;
pub mod limits;
mod operations;
pub mod peers;
mod profile;
pub mod secret_file;
pub mod secret_hash;
pub mod server;
pub mod setting_error;
pub mod settings;
pub mod signing;
pub mod store;
pub mod tls;
mod user;
pub mod users;
