//! What the gateway says of the client before it: its network address and its program.

use std::net::IpAddr;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{direct::DirectCaller, gate};

/// The client, as the gateway describes it. Without the gateway's word nothing is known of
/// it: a stranger may write anything into a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Network address.
    pub address: Option<IpAddr>,
    /// `User-Agent`, as fit for showing as for a log; empty when there is none.
    pub user_agent: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(if gate::is_vouched_for(&parts.extensions) {
            Self::described(&parts.headers)
        } else if let Some(caller) = parts.extensions.get::<DirectCaller>() {
            caller.client.clone()
        } else {
            Self::default()
        })
    }
}

impl Client {
    fn described(headers: &HeaderMap) -> Self {
        // The last value is the one that the last door wrote, whoever wrote those before.
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        Self {
            address: forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok()),
            user_agent: user_agent(headers),
        }
    }

    /// A client without a gateway before it, by its connection's peer address.
    pub(super) fn direct(headers: &HeaderMap, address: IpAddr) -> Self {
        Self { address: Some(address), user_agent: user_agent(headers) }
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    text.map(gate::tame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_address_is_the_last_of_the_last_header() {
        for (values, expected) in [
            (&[][..], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["10.0.0.1, 192.0.2.1"], Some("192.0.2.1")),
            (&["10.0.0.1", "192.0.2.1"], Some("192.0.2.1")),
            (&["2001:db8:85a3:1234:1234:8a2e:1370:7334"], Some("2001:db8:85a3:1234:1234:8a2e:1370:7334")),
            (&["192.0.2.1,"], None),
            (&["192.0.2.1:80"], None),
            (&["unknown"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(Client::described(&headers).address, expected, "{values:?}");
        }
    }
}
