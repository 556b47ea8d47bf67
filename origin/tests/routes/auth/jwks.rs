//! `GET /.well-known/jwks.json`.

use crate::support::{App, Service, jwks};

#[tokio::test]
async fn the_key_set_is_public_cacheable_and_has_thumbprints_as_kids() {
    let app = App::start().await;
    let (set, headers) = jwks(&app).await;
    assert_eq!(headers["cache-control"], "public, max-age=300");
    let [key] = set["keys"].as_array().unwrap().as_slice() else { panic!("one key: {set}") };
    let mut names: Vec<&String> = key.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"], "and nothing private");
    assert_eq!(
        (key["alg"].as_str(), key["use"].as_str(), key["e"].as_str()),
        (Some("RS256"), Some("sig"), Some("AQAB"))
    );
    // RFC 7638, section 3.
    let canonical = format!(r#"{{"e":"AQAB","kty":"RSA","n":{}}}"#, key["n"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    assert_eq!(key["kid"], base64::Engine::encode(&engine, digest));
    let pem = app.send_raw(app.http.get(app.url(Service::Auth, "/api/v1/auth/public-key"))).await;
    assert!(pem.text.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.text.ends_with("-----END PUBLIC KEY-----\n"));
    assert!(pem.text.lines().all(|line| line.len() <= 64));
}
