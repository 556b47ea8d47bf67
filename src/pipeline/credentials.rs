//! Where a token may be: the `Authorization` header (RFC 6750, section 2.1), the header that its issuer
//! names or, if policy and route allow it, one cookie. A token in a query or a form would end in logs and
//! histories.
//!
//! Browsers send cookies with requests of any page, and proxies that send tokens in a header of their own
//! authenticate browsers by a cookie. So a token from either counts only if the request comes from a page of
//! the gateway's own origin, or of an origin that the route lists with credentials.

use super::{
    denial::Denial,
    head::{Head, is_blank},
};
use portcullis_policy::{Cors, Refusal, TokenSources, allows};

/// Returns the token of a request, unparsed, and the token header that held it; `None` for `Authorization` and
/// the cookie.
///
/// `sources` are those of a route with token headers. `cookie` is the cookie that may hold a browser's token, `cors`
/// the CORS policy of the route. `takes_dpop` says whether the scheme of `Authorization` may be `DPoP`.
pub(super) fn of<'a>(
    head: &'a Head,
    sources: Option<&'a TokenSources>,
    cookie: Option<&str>,
    cors: Option<&Cors>,
    takes_dpop: bool,
) -> Result<(&'a str, Option<&'a str>), Denial> {
    let Some(TokenSources { headers, has_authorization }) = sources else {
        return authorization_or_cookie(head, cookie, cors, takes_dpop).map(|token| (token, None));
    };
    let mut shown = headers.iter().filter_map(|name| Some((name.as_str(), head.header(name)?)));
    let Some((name, token)) = shown.next() else {
        let missing = Err(Refusal::CredentialsMissing.into());
        let found = if *has_authorization { authorization_or_cookie(head, cookie, cors, takes_dpop) } else { missing };
        return found.map(|token| (token, None));
    };
    // Two sources may mean two users, and a client uses one method for each request (RFC 6750, section 2).
    let has_cookie = || cookie.is_some_and(|name| cookie_tokens(head, name).next().is_some());
    if shown.next().is_some() || (*has_authorization && (head.header("authorization").is_some() || has_cookie())) {
        return Err(Denial::CredentialsAmbiguous);
    }
    // Browsers send one of these with each request that could change something.
    let is_of_browser = ["sec-fetch-site", "origin"].iter().any(|name| head.header(name).is_some());
    if is_of_browser && !is_meant(head, cors) {
        return Err(Denial::CrossSite);
    }
    if is_token(token) { Ok((token, Some(name))) } else { Err(Denial::CredentialsMalformed) }
}

/// Returns the tokens in cookies that are next to another source. What only resembles one does not count: another
/// host of the domain can set it, and would lock the user out. A logout leaves an empty cookie.
fn cookie_tokens<'a>(head: &'a Head, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.cookies(name).filter(|value| is_token(value))
}

/// Returns the token in `Authorization` or in the cookie.
fn authorization_or_cookie<'a>(
    head: &'a Head,
    cookie: Option<&str>,
    cors: Option<&Cors>,
    takes_dpop: bool,
) -> Result<&'a str, Denial> {
    let has_cookie = |name: &&str| head.header("cookie").is_some_and(|all| Head::has_cookie(all, name, is_blank));
    let Some(name) = cookie.filter(has_cookie) else {
        return authorization(head, takes_dpop);
    };
    if head.header("authorization").is_some() {
        let token = authorization(head, takes_dpop)?;
        let is_only = cookie_tokens(head, name).all(|other| other == token);
        return if is_only { Ok(token) } else { Err(Denial::CredentialsAmbiguous) };
    }
    if !is_meant(head, cors) {
        return Err(Denial::CrossSite);
    }
    match head.cookie(name) {
        Some("") => Err(Refusal::CredentialsMissing.into()),
        token => token.filter(|token| is_token(token)).ok_or(Denial::CredentialsMalformed),
    }
}

/// Returns whether the request shows that its cookie was meant for it. A client that is not a
/// browser sends `Authorization` instead.
fn is_meant(head: &Head, cors: Option<&Cors>) -> bool {
    let lists = |cors: &Cors| {
        cors.credentials && head.header("origin").is_some_and(|origin| origin != "null" && allows(cors, origin))
    };
    if head.is_of_own_page() || cors.is_some_and(lists) {
        return true;
    }
    // A link on another site may lead to a safe request, and old browsers do not say which site
    // made it. A WebSocket begins with GET and is a conversation.
    let is_safe = Head::is_safe(&head.method) && !head.asks_for_websocket();
    is_safe
        && match head.header("sec-fetch-site") {
            Some(site) => site == "same-site" || head.is_navigation(),
            // A page with an origin that is neither the gateway's nor listed.
            None => head.header("origin").is_none(),
        }
}

/// The bytes that a token may have (RFC 6750, section 2.1), as a table: branches on random letters,
/// digits and signs are mispredicted, and would cost more than the rest of the check.
#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "it is built when this is compiled")]
static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        table[byte as usize] = fits;
        byte += 1;
    }
    table
};

pub(super) fn is_token(text: &str) -> bool {
    let fits = |byte: u8| IN_TOKEN.get(usize::from(byte)).copied().unwrap_or(false);
    // Eight bytes without a branch.
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    let fit = |bytes: &[u8]| bytes.iter().fold(true, |fit, byte| fit & fits(*byte));
    !text.is_empty() && groups.iter().all(|group| fit(group)) && fit(rest)
}

/// Returns the bearer token of a request, unparsed.
pub(super) fn bearer(head: &Head) -> Result<&str, Denial> {
    authorization(head, false)
}

/// Returns whether the token in `Authorization` was sent for use with a proof (RFC 9449, section 7.1).
pub(super) fn has_dpop_scheme(head: &Head) -> bool {
    head.header("authorization").and_then(|value| value.split_once(' ')).is_some_and(|(scheme, _)| is_dpop(scheme))
}

fn is_dpop(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("dpop")
}

fn authorization(head: &Head, takes_dpop: bool) -> Result<&str, Denial> {
    // Two header lines arrive as one value with a comma, which no token has. Parsers disagree on
    // which of two tokens counts.
    let value = head.header("authorization").ok_or(Refusal::CredentialsMissing)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Denial::CredentialsMalformed)?;
    let token = rest.trim_start_matches(' ');
    let is_known = scheme.eq_ignore_ascii_case("bearer") || (takes_dpop && is_dpop(scheme));
    if !is_known || !is_token(token) {
        return Err(Denial::CredentialsMalformed);
    }
    Ok(token)
}
