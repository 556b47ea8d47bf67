//! Administration: users, roles, permissions, the audit log and signing keys.

mod client;
mod list;
mod pages;
mod record;

pub use client::{AdminClient, Bearer};
pub use list::{AuditPage, AuditQuery, Listed, Page, Pagination, UserQuery};
pub use pages::Pages;
pub use record::{AuditEvent, NewUser, Permission, PermissionDraft, Role, RoleDraft, Rotated, UserDraft, UserPatch};
