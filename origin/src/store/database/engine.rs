//! The two database engines and the two schemas.

/// A service's set of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Accounts, sessions, signing keys.
    Auth,
    /// Profiles.
    Users,
}

impl Schema {
    /// Returns a table that every version of the schema has.
    pub(in crate::store) const fn table(self) -> &'static str {
        match self {
            Self::Auth => "accounts",
            Self::Users => "profiles",
        }
    }
}

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    /// Returns the engine of a URL.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] for another scheme.
    pub(super) fn of_url(url: &str) -> Result<Self, sqlx::Error> {
        if url.starts_with("sqlite:") {
            Ok(Self::Sqlite)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Ok(Self::Postgres)
        } else {
            Err(sqlx::Error::Configuration("a URL begins with sqlite: or postgres:".into()))
        }
    }

    /// Returns the statements that configure each new connection.
    pub(super) const fn set_up(self) -> &'static [&'static str] {
        match self {
            // With the write-ahead log a power failure can lose the last commits but cannot corrupt the
            // file. `synchronous = FULL` prevents the loss as well.
            Self::Sqlite => &[
                "PRAGMA busy_timeout = 3000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
                // Overwrites deleted rows.
                "PRAGMA secure_delete = ON",
            ],
            // A hanging connection holds locks for at most the duration of a request; one whose peer is
            // gone, for at most a minute.
            Self::Postgres => &[
                "SET tcp_keepalives_idle = 20",
                "SET tcp_keepalives_interval = 10",
                "SET tcp_keepalives_count = 3",
                "SET lock_timeout = '3s'",
                "SET statement_timeout = '10s'",
                "SET idle_in_transaction_session_timeout = '15s'",
            ],
        }
    }
}
