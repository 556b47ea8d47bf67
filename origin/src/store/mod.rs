//! The databases. Each domain has one file of statements per database kind;
//! SQLite is the one there is. Nothing outside this room names a database.

pub mod sqlite;

pub use sqlite::{accounts::Accounts, keys::SigningKeys, outbox::Outbox, profiles::Profiles, sessions::Sessions};
