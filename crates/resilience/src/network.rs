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

/// Returns whether a host is a private or a loopback address, or a name that the internet's name servers do not know.
pub fn is_without_public_name(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_private() || address.is_loopback(),
        Ok(IpAddr::V6(address)) => address.is_unique_local() || address.is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.');
            let last = name.rsplit_once('.').map(|(_, last)| last);
            last.is_none_or(|last| last.eq_ignore_ascii_case("internal") || last.eq_ignore_ascii_case("local"))
        }
    }
}
