//! The services behind the gate.
//!
//! - [`auth`]: accounts, passwords, sessions, tokens
//! - [`users`]: the profiles of the accounts
//! - [`signing`]: the keys with which access tokens are signed
//! - [`store`]: the databases, one file of statements a domain
//! - [`http`]: extractors, errors and middleware that both services use
//! - [`fields`]: what users may write, in its one normal form
//! - [`boot`], [`settings`], [`server`], [`tls`], [`clock`], [`ids`], [`secret_hash`]: what a process is made of
//!
//! Identity comes from the gateway's assertion alone (`portcullis_client::assertion`).
//! No verification code is shared with the gateway.

pub mod auth;
pub mod boot;
pub mod clock;
pub mod fields;
pub mod http;
pub mod ids;
pub mod limits;
pub mod peers;
pub mod secret_file;
pub mod secret_hash;
pub mod server;
pub mod setting_error;
pub mod settings;
pub mod signing;
pub mod store;
pub mod tls;
pub mod users;
