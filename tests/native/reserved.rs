//! Names of headers that no policy can change.

use portcullis_policy::{HeaderRules, check, is_private, is_replaced};

use crate::config::VALID;

#[test]
fn headers_that_only_the_gateway_sets_are_private_in_every_spelling() {
    // Of each family, the name alone and what begins with it and a dash; other spellings of the platform's.
    let private = "\
        x-user-id X-USER-ROLES x_user_id X_User-Id x-gateway-assertion x-internal-call x-service-caller \
        x-forwarded-for x-forwarded-prefix x_forwarded_uri forwarded x-real-ip x-original-url \
        x-envoy-original-path x-http-method-override x-acting-user remote-user remote.user remote-groups \
        x-remote-user x-auth-request-email x-authenticated-user cf-access-jwt-assertion \
        cf_access_authenticated_user_email ssl-client-verify ssl_client_s_dn x-ssl-client-verify x-host \
        client-cert client-cert-chain client_cert x-webauth-user x-ms-client-principal x-goog-iap-jwt-assertion \
        x-consumer-username x-credential-identifier x-vouch-user x-endpoint-api-userinfo \
        x-apigateway-api-userinfo x-arr-clientcert x-ms-token-aad-id-token x-amzn-mtls-clientcert-subject \
        impersonate-user tailscale-user-login connection transfer-encoding proxy x-user x-internal x-forwarded \
        x-remote cf-access ssl-client cf_connecting_ip cf.ray";
    private.split(' ').for_each(|name| assert!(is_private(name), "{name}"));
    let free = "\
        client-certs cf-connecting-ip cf-ray user-agent accept cookie x-users-list x-hostname x-remotely x x- \
        remotely proxy-status ssl-cipher";
    free.split(' ').chain([""]).for_each(|name| assert!(!is_private(name), "{name}"));
}

#[test]
fn every_byte_that_is_not_a_letter_or_digit_counts_as_a_dash() {
    let rules = HeaderRules { remove: vec!["X_Debug".to_owned()], ..HeaderRules::default() };
    for byte in (0_u8..=127).map(char::from) {
        let spell = |name: &str| name.replace('-', &byte.to_string());
        let counts = !byte.is_ascii_alphanumeric();
        for name in ["x-user-id", "X-User-Roles", "x-gateway-assertion", "remote-user", "ssl-client-verify"] {
            assert_eq!(is_private(&spell(name)), counts, "{byte:?} in {name}");
        }
        assert_eq!(is_replaced(&spell("x-request-id")), counts, "{byte:?}");
        assert_eq!(rules.covers(&spell("x-debug")), counts, "{byte:?}");
    }
}

#[test]
fn a_policy_removes_no_header_that_the_gateway_controls() {
    for (name, in_requests, in_answers) in [
        ("x-tenant", false, false),
        ("cache-control", false, false),
        ("server", false, false),
        ("set-cookie", false, false),
        ("x-user-id", true, true),
        ("x_gateway_assertion", true, true),
        ("connection", true, true),
        ("host", true, false),
        ("authorization", true, false),
        ("x-request-id", true, true),
        ("access-control-allow-origin", false, true),
        ("content-length", true, true),
        ("content-encoding", false, true),
        ("location", false, true),
        ("x_request_id", true, true),
        ("content_length", true, true),
        ("x_request_timeout_ms", true, false),
        ("access_control_allow_origin", false, true),
        ("cf-connecting-ip", true, false),
    ] {
        for (headers, is_reserved) in [("request_headers", in_requests), ("response_headers", in_answers)] {
            let policy = check(&format!("{VALID}{headers} = {{ remove = [{name:?}] }}\n"));
            assert_eq!(policy.is_err(), is_reserved, "{headers}: {name}");
        }
    }
}
