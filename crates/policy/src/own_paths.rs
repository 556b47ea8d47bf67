//! The gateway's own endpoints.

/// Paths of the gateway itself, with everything below them. No route may have one, and no
/// catch-all reaches them: a client cannot take an upstream's endpoint for an operator's.
pub(crate) const OWN_PATHS: &[&str] = &["/health", "/ready", "/status", "/metrics", "/_gateway"];

/// Path for pushes of revocations.
pub(crate) const PUSH_PATH: &str = "/_gateway/revocations";

/// Whether a path is one of [`OWN_PATHS`] or below one.
pub(crate) fn is_own_path(path: &str) -> bool {
    OWN_PATHS.iter().any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}
