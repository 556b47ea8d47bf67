//! The origin.
fn main() {}
