//! Routes of the user service.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod preconditions;
pub(crate) mod reauthentication;
pub(crate) mod update;
