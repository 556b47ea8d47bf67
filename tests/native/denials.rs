//! Refusals as pages for people, and their codes in the documents.

use std::collections::BTreeSet;

use base64::Engine as _;
use portcullis::pipeline::{Answer, Denial};
use portcullis_policy::Refusal;
use portcullis_token::{EventFault, ProofError, TokenError};
use sha2::{Digest as _, Sha256};

#[test]
fn a_page_has_the_problems_text_and_runs_no_script() {
    let denial = Denial::PushMalformed { detail: "<script>alert(1)</script>".to_owned() };
    let page = Answer::page(&denial, "id-7");
    assert_eq!(page.status, 400);
    assert!(page.body.contains("&lt;script&gt;") && page.body.contains("400 push_malformed, request id-7"));
    assert!(!page.body.contains("<script"));
    assert!(page.body.contains("prefers-color-scheme:dark"));
    let header = |name: &str| page.headers.iter().filter(|(known, _)| *known == name).count();
    assert_eq!((header("content-type"), header("content-security-policy"), header("x-request-id")), (1, 1, 1));
}

#[test]
fn the_content_security_policy_allows_the_pages_own_style_alone() {
    let page = Answer::page(&Denial::HostInvalid, "id-7");
    let (_, style) = page.body.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style));
    let (_, policy) = page.headers.iter().find(|(name, _)| *name == "content-security-policy").unwrap();
    assert!(policy.contains(&format!("style-src 'sha256-{digest}'")), "{digest}");
    assert!(policy.starts_with("default-src 'none'; style-src"));
}

#[test]
fn a_page_names_the_next_step() {
    for (denial, expected) in [
        (Refusal::CredentialsMissing.into(), "Log in"),
        (Refusal::PermissionMissing { scopes: String::new() }.into(), "ask the operator"),
        (Refusal::RouteUnknown.into(), "Check the address"),
        (Refusal::MethodNotAllowed { allow: String::new() }.into(), "Check the address"),
        (Denial::RateLimited { retry_s: 60 }, "Wait 60 seconds, then <a href=\"\">try again</a>"),
        (Denial::BreakerOpen { retry_ms: 1 }, "Wait a second, then"),
        (Denial::UpstreamUnreachable, "Wait 5 seconds"),
        (Denial::BodyTooLarge, "Go back"),
    ] {
        let page = Answer::page(&denial, "id-7");
        assert!(page.body.contains(expected), "{denial:?}: {}", page.body);
    }
}

#[test]
fn each_code_has_its_entry_in_the_documents() {
    let documents = include_str!("../../docs/errors.md");
    let entries: BTreeSet<&str> = documents.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let of_tokens = TokenError::ALL.iter().map(|error| error.code());
    let of_tokens = of_tokens.chain(ProofError::ALL.iter().map(|error| error.code()));
    let of_events = EventFault::ALL.iter().map(|fault| fault.code());
    let codes = Denial::CODES.iter().chain(Refusal::CODES).copied();
    assert_eq!(entries, codes.chain(of_tokens).chain(of_events).collect());
}
