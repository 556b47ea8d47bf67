//! Networks in CIDR notation (RFC 4632, RFC 4291).

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The addresses with a common prefix. One spelling: no bit behind the prefix is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Returns whether an address belongs to the network. An IPv4-mapped IPv6 address is its IPv4 address, which
    /// clients of both families have in common.
    pub fn contains(&self, address: IpAddr) -> bool {
        let common = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        common >= self.prefix
    }

    /// Returns whether each address of this network belongs to the other one.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        other.prefix <= self.prefix && other.contains(self.address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    /// Parses `192.0.2.0/24`, `2001:db8::/32`, or one address.
    ///
    /// # Errors
    /// The fault, with what to write instead.
    fn try_from(text: String) -> Result<Self, String> {
        let fault = |fault: &str| Err(["network ", &text, " ", fault].concat());
        let (address, prefix) =
            text.split_once('/').map_or((text.as_str(), None), |(address, prefix)| (address, Some(prefix)));
        let Ok(address) = address.parse::<IpAddr>() else {
            return fault("is no network; write 192.0.2.0/24, 2001:db8::/32 or one address");
        };
        if address != address.to_canonical() {
            return fault("is IPv4-mapped; write the IPv4 network, to which such clients belong");
        }
        let (bits, zeros) = match address {
            IpAddr::V4(address) => (32, address.to_bits().trailing_zeros()),
            IpAddr::V6(address) => (128, address.to_bits().trailing_zeros()),
        };
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let prefix = prefix.map_or(Some(bits), |text| Some(text).filter(is_number)?.parse::<u32>().ok());
        match prefix.and_then(|prefix| Some((prefix, bits.checked_sub(prefix)?))) {
            // A prefix of 0 would be every client.
            None => fault("has no valid prefix; write /1 to /32, or to /128 for IPv6"),
            Some((_, free)) if zeros < free => {
                fault("has bits behind its prefix; write its first address, such as 192.0.2.0/24")
            }
            Some((prefix, _)) => Ok(Self { address, prefix }),
        }
    }
}
