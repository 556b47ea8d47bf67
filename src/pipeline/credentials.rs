//! Where a token may be: the `Authorization` header (RFC 6750, section 2.1) or, if policy and route
//! allow it, one cookie. A token in a query or a form would end in logs and histories.
//!
//! Browsers send cookies with requests of any page, so a token from a cookie counts only if the request
//! comes from a page of the gateway's own origin, or of an origin that the route lists with credentials.

use super::{
    denial::Denial,
    head::{Head, is_blank},
};
use portcullis_policy::{Cors, Refusal, allows};

/// Returns the token of a request, unparsed. `cookie` is the cookie that may hold a browser's
/// token, `cors` the CORS policy of the route.
pub(super) fn of<'a>(head: &'a Head, cookie: Option<&str>, cors: Option<&Cors>) -> Result<&'a str, Denial> {
    let Some(name) = cookie.filter(|name| {
        head.header("authorization").is_none()
            && head.header("cookie").is_some_and(|cookies| Head::has_cookie(cookies, name, is_blank))
    }) else {
        return bearer(head);
    };
    if !is_meant(head, cors) {
        return Err(Denial::CrossSite);
    }
    match head.cookie(name) {
        // A logout leaves an empty cookie.
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
    // Two header lines arrive as one value with a comma, which no token has. Parsers disagree on
    // which of two tokens counts.
    let value = head.header("authorization").ok_or(Refusal::CredentialsMissing)?;
    let (scheme, rest) = value.split_once(' ').ok_or(Denial::CredentialsMalformed)?;
    let token = rest.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token(token) {
        return Err(Denial::CredentialsMalformed);
    }
    Ok(token)
}
