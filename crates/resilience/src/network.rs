//! The network by which a client is counted.

use std::net::{IpAddr, Ipv6Addr};

/// The first 64 bits of an IPv6 address.
const PREFIX: u128 = !0 << 64;

/// Returns the network of a client: its IPv4 address, or the first 64 bits of its IPv6 address.
/// One home or machine has a whole /64 and may use a new address of it for each connection.
///
/// An IPv4-mapped address counts as IPv4 (RFC 4291, section 2.5.5.2).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & PREFIX)),
        address @ IpAddr::V4(_) => address,
    }
}
