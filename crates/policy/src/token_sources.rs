//! Where tokens arrive: the headers and cookies that hold them, and the headers that services get claims in.

use std::rc::Rc;

use crate::{
    access::Access,
    limits,
    model::{Issuer, Policy, Route},
    named::find,
    reserved::cookie_of,
    sorted,
};

/// Where a route with token headers looks for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSources {
    /// Token headers of the route's issuers, in lower case, each once.
    pub headers: Vec<String>,
    /// Whether another of its issuers has its tokens in `Authorization` or the token cookie.
    pub has_authorization: bool,
}

impl Policy {
    /// Returns the headers of clients that are never forwarded, each once: the token headers of all issuers, and those
    /// that a route writes from a claim. A service takes the client's own for a claim on each of its routes.
    pub fn private_headers(&self) -> Vec<String> {
        let of_tokens = self.issuers.iter().filter_map(|issuer| issuer.token_header.as_deref());
        distinct(of_tokens.chain(self.claim_headers()))
    }

    /// Returns the headers that routes write from claims, with repetitions.
    fn claim_headers(&self) -> impl Iterator<Item = &str> {
        let set = self.routes.iter().flat_map(|route| &route.request_headers.set);
        set.filter(|(_, value)| value.claim().is_some()).map(|(name, _)| name.as_str())
    }

    /// Returns the cookies that hold tokens for the gateway, each once. They are never forwarded.
    pub fn private_cookies(&self) -> Vec<String> {
        let headers = self.issuers.iter().filter_map(|issuer| issuer.token_header.as_deref());
        distinct(
            self.token_cookie_name()
                .into_iter()
                .chain(headers.filter_map(|header| -> Option<&str> { cookie_of(header) })),
        )
    }

    /// Returns where each route looks for tokens; `None` if `Authorization` and the token cookie are its only sources,
    /// and for a public route. Routes share what is equal: there may be many, and many issuers.
    pub fn token_sources(&self) -> Vec<Option<Rc<TokenSources>>> {
        let of_all = TokenSources::of(self.issuers.iter());
        let sources = |route: &Route| match &route.issuers {
            _ if route.access == Access::Public => None,
            None => of_all.clone(),
            Some(names) => TokenSources::of(names.iter().filter_map(|name| find(&self.issuers, name))),
        };
        self.routes.iter().map(sources).collect()
    }
}

impl TokenSources {
    fn of<'a>(issuers: impl Iterator<Item = &'a Issuer>) -> Option<Rc<Self>> {
        let mut has_authorization = false;
        let headers = distinct(issuers.filter_map(|issuer| {
            has_authorization |= issuer.token_header.is_none();
            issuer.token_header.as_deref()
        }));
        (!headers.is_empty()).then(|| Rc::new(Self { headers, has_authorization }))
    }
}

/// Returns each name once, in order, and none beyond the bound, to which policies are checked.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found = Vec::new();
    for name in names {
        if found.len() > limits::PRIVATE_HEADERS {
            break;
        }
        sorted::insert(&mut found, name.to_owned());
    }
    found
}
