//! Bounds of a request's path, with unit and reason.

/// Longest path in bytes. Real ones are below 500; common servers accept 8 KB for the whole line.
pub const PATH_BYTES: usize = 4 * 1024;

/// Longest query in bytes.
pub const QUERY_BYTES: usize = 8 * 1024;

/// Layers of percent-encoding that are decoded in search of separators. Honest clients use two at most.
pub const ESCAPE_LAYERS: usize = 4;
