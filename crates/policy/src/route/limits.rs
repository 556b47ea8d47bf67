//! Every bound of the route room, with its unit and its reason.

/// Bytes of a path. Real ones are below 500; what common servers take ends at
/// 8 KB for the whole line.
pub const PATH_BYTES: usize = 4 * 1024;

/// Bytes of a query.
pub const QUERY_BYTES: usize = 8 * 1024;

/// Layers of percent-encoding that are looked through. Each hides the next from a service
/// that decodes once; an honest client has no use for more than two.
pub const ESCAPE_LAYERS: usize = 4;
