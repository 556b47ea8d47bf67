//! API keys: the form of their text, their records, pushes, and requests with them. The list of attacks in
//! docs/standards/api-keys.md is in `a_text_that_is_no_active_key_is_refused` and `a_push_that_is_malformed_changes_nothing`.

use portcullis::pipeline::Gateway;
use portcullis_policy::check;
use portcullis_token::{
    ApiKey, limits,
    revocation::{RevocationEntry, RevocationKey, RevocationKind, limits::STALE_MS},
};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Seen, answer, header, setup, verdict},
    signer::{Signer, claims_at, issuer_table, with},
};

/// Computed with Python: `"pck_" + hex`, and the first 8 digits of its SHA-256.
const KEY: &str = "pck_000102030405060708090a0b0c0d0e0f10111213be8e0deb";
const DIGEST: &str = "CeE1laMjB90nXmsLCodjOMOKee90Vz8PVC1EcGRr_cI";

fn counting() -> [u8; 20] {
    std::array::from_fn(|index| u8::try_from(index).unwrap())
}

#[test]
fn a_key_has_the_text_and_the_digest_that_another_implementation_computes() {
    let key = ApiKey::new("pck", counting());
    assert_eq!((key.as_str(), key.digest().as_str()), (KEY, DIGEST));
    let of_zeros = ApiKey::new("pck", [0; 20]);
    assert_eq!(of_zeros.as_str(), "pck_00000000000000000000000000000000000000007e763f51");
}

#[test]
fn a_key_is_read_from_exactly_its_text() {
    for prefix in ["pck", "a1", "sixteenletters16"] {
        let key = ApiKey::new(prefix, counting());
        assert!(ApiKey::parse(key.as_str(), prefix).is_some_and(|read| read == key), "{prefix}");
    }
    // Each digit that is mistyped, and each that is left out.
    let text = KEY;
    for place in 0..text.len() {
        let mut mistyped = text.as_bytes().to_vec();
        mistyped[place] = if mistyped[place] == b'7' { b'8' } else { b'7' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        assert!(ApiKey::parse(&mistyped, "pck").is_none(), "{mistyped}");
        let shortened = [&text[..place], &text[place + 1..]].concat();
        assert!(ApiKey::parse(&shortened, "pck").is_none(), "{shortened}");
    }
    for (name, wrong) in [
        ("upper case", text.to_uppercase()),
        ("digits in upper case", text.replace('b', "B")),
        ("a character more", [text, "0"].concat()),
        ("a space before it", [" ", text].concat()),
        ("a line break after it", [text, "\n"].concat()),
        ("the key twice", [text, text].concat()),
        ("the prefix alone", "pck_".to_owned()),
        ("nothing", String::new()),
        ("letters of several bytes", ["pck_", &"é".repeat(24)].concat()),
        ("letters of several bytes at the checksum", [&text[..43], "é", &text[45..]].concat()),
        ("16 KiB of digits", ["pck_", &"0".repeat(16 * 1024)].concat()),
    ] {
        assert!(ApiKey::parse(&wrong, "pck").is_none(), "{name}");
    }
    assert!(ApiKey::parse(text, "pc").is_none(), "a shorter prefix");
    assert!(ApiKey::parse(text, "pck_00").is_none(), "a longer prefix");
}

#[test]
fn a_prefix_is_known_with_its_underscore() {
    for (text, prefix, is_its) in [
        (KEY, "pck", true),
        ("pck_", "pck", true),
        ("pck_anything", "pck", true),
        (KEY, "pc", false),
        ("pck", "pck", false),
        ("PCK_00", "pck", false),
        ("eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "eyj", false),
    ] {
        assert_eq!(ApiKey::has_prefix(text, prefix), is_its, "{text} {prefix}");
    }
}

const PUSH: &str = "/_gateway/api-keys";

const OK: (u16, &str) = (200, "ok");
const INACTIVE: (u16, &str) = (401, "token_inactive");
const MALFORMED: (u16, &str) = (401, "token_malformed");
const REVOKED: (u16, &str) = (401, "token_revoked");
const UNAVAILABLE: (u16, &str) = (503, "api_keys_unavailable");

/// Issuers of keys in `Authorization` and in a header of their own, one with introspection, and two services.
fn policy() -> String {
    let keys = |name: &str, prefix: &str, more: &str| {
        format!(
            "[issuers.{name}]\nissuer = \"{name}-keys\"\napi_keys = {{ prefix = \"{prefix}\", from = \"id\" }}\n{more}\n"
        )
    };
    let route = |path: &str, access: &str, more: &str| {
        format!("[[routes]]\npath = \"{path}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = {access}\n{more}\n")
    };
    [
        issuer_table("id", 7, "revocations_from = \"accounts\""),
        issuer_table("other", 8, "revocations_from = \"accounts\""),
        keys("partners", "pck", ""),
        keys("owners", "own", "claims = { user_id = \"owner\" }"),
        keys("devices", "dev", "token_header = \"X-Api-Key\""),
        keys("strict", "str", "require = [{ claim = \"owner\", equals = \"ada\" }]"),
        "[issuers.opaque]\nissuer = \"o\"\naudience = [\"api\"]\nintrospection = { url = \"https://o.example/\" }\n"
            .to_owned(),
        "[upstreams.app]\nurl = \"https://app.example\"\nassertion = { claims = [\"owner\"] }\n".to_owned(),
        "[limits.by-key]\nby = \"user\"\n[limits.guesses]\nby = \"failed_ip\"\n".to_owned(),
        route("/me", "\"user\"", ""),
        route("/strict", "\"user\"", "revocation = \"strict\"\nissuers = [\"partners\"]"),
        route("/read", "{ scopes = [\"read\"] }", "issuers = [\"partners\"]"),
        route("/of/{owner}", "{ claim = \"owner\", equals_path = \"owner\" }", "issuers = [\"partners\"]"),
        route("/owned/{id}", "{ owner = \"id\" }", "issuers = [\"owners\"]"),
        route("/limited", "\"user\"", "limits = [\"by-key\"]"),
        route("/jwts", "\"user\"", "issuers = [\"id\"]"),
        route("/logout", "\"user\"", "ends_session = true\nissuers = [\"partners\"]"),
        route(
            "/header",
            "\"user\"",
            "request_headers = { set = { X-Owner = { claim = \"owner\" } } }\nissuers = [\"partners\"]",
        ),
    ]
    .join("\n")
}

/// A gateway with ports, for requests and pushes.
struct World(Gateway, FakePorts);

impl World {
    fn new() -> Self {
        let (gateway, ports) = setup(&policy());
        Self(gateway, ports)
    }

    fn now(&self) -> u64 {
        self.1.now.get().secs()
    }

    fn get(&self, path: &str, key: &ApiKey) -> Seen {
        self.1.send_token(&self.0, "GET", path, key.as_str())
    }

    fn says(&self, path: &str, key: &ApiKey) -> (u16, &'static str) {
        verdict(&self.get(path, key))
    }

    fn push_as(&self, token: &str, body: &Value) -> Seen {
        *self.1.body.borrow_mut() = body.to_string().into_bytes();
        self.1.send_token(&self.0, "POST", PUSH, token)
    }

    fn push(&self, body: &Value) -> Seen {
        self.push_as(&self.service_token(7, &json!({})), body)
    }

    fn service_token(&self, signer: u8, changes: &Value) -> String {
        let issuer = if signer == 7 { "https://id.example" } else { "https://other.example" };
        let service = json!({
            "iss": issuer, "sub": "accounts", "aud": "portcullis", "token_type": "service",
        });
        Signer::new(signer).sign("service+jwt", &with(with(claims_at(self.now()), &service), changes))
    }

    /// The item of a new key.
    fn item(&self, key: &ApiKey, changes: &Value) -> Value {
        let now = self.now();
        let item = json!({
            "digest": key.digest(), "id": "k1", "owner": "ada", "scope": "read write", "iat": now, "exp": now + 3600,
        });
        with(item, changes)
    }

    fn create(&self, issuer: &str, key: &ApiKey, changes: &Value) {
        let pushed = self.push(&json!({ "issuer": format!("{issuer}-keys"), "keys": [self.item(key, changes)] }));
        assert_eq!(pushed_of(&pushed), (200, json!({ "keys": 1, "ended": 0 })));
    }

    fn record(&self, issuer: &str, key: &ApiKey) -> Option<Value> {
        let name = format!("apikeys/1/{issuer}/{}", key.digest());
        self.1.store.borrow().get(&name).map(|text| serde_json::from_str(text).unwrap())
    }

    fn write(&self, key: &ApiKey, record: &str) {
        self.1.store.borrow_mut().insert(format!("apikeys/1/partners/{}", key.digest()), record.to_owned());
    }
}

fn key(prefix: &str, seed: u8) -> ApiKey {
    ApiKey::new(prefix, [seed; 20])
}

fn pushed_of(seen: &Seen) -> (u16, Value) {
    (answer(seen).status, serde_json::from_str(&answer(seen).body).unwrap())
}

fn ended(key: &ApiKey) -> Value {
    json!({ "issuer": "partners-keys", "ended": [{ "digest": key.digest(), "id": "k1" }] })
}

#[test]
fn a_key_that_was_pushed_is_a_principal_with_scopes_claims_and_a_limit_of_its_own() {
    let world = World::new();
    let (one, two, owned) = (key("pck", 1), key("pck", 2), key("own", 3));
    world.create("partners", &one, &json!({}));
    world.create("partners", &two, &json!({ "id": "k2", "scope": "write", "exp": null }));
    world.create("owners", &owned, &json!({ "id": "k3" }));
    for (request, shown, expected) in [
        ("/me", &one, OK),
        ("/me", &two, OK),
        ("/strict", &one, OK),
        ("/read", &one, OK),
        ("/read", &two, (403, "rights_missing")),
        ("/of/ada", &one, OK),
        ("/of/eve", &one, (403, "rights_missing")),
        ("/owned/ada", &owned, OK),
        ("/owned/k3", &owned, (403, "rights_missing")),
        ("/jwts", &one, (403, "rights_missing")),
    ] {
        assert_eq!(world.says(request, shown), expected, "{request}");
    }
    assert_eq!(world.get("/me", &one).record.user_id.as_deref(), Some("k1"));
    assert_eq!(world.get("/me", &owned).record.user_id.as_deref(), Some("ada"));
    world.get("/header", &one);
    let sent = world.1.forwarded.borrow();
    let shown =
        sent.last().unwrap().headers.iter().find(|(name, _)| name == "x-owner").map(|(_, value)| value.as_str());
    assert_eq!(shown, Some("ada"));
    assert!(!format!("{:?}", sent.iter().map(|sent| &sent.headers).collect::<Vec<_>>()).contains(one.as_str()));
    drop(sent);
    // By key, and not by owner.
    world.1.limit.set(2);
    for (shown, expected) in [(&one, OK), (&one, OK), (&two, OK), (&one, (429, "rate_limited")), (&two, OK)] {
        assert_eq!(world.says("/limited", shown), expected);
    }
}

#[test]
fn a_record_holds_no_secret_and_is_kept_for_a_day_after_it_expires() {
    let world = World::new();
    let (one, lasting) = (key("pck", 1), key("pck", 2));
    world.create("partners", &one, &json!({}));
    world.create("partners", &lasting, &json!({ "exp": null }));
    let now = world.now();
    let expected =
        json!({ "sub": "k1", "jti": "k1", "owner": "ada", "scope": "read write", "iat": now, "exp": now + 3600 });
    assert_eq!(world.record("partners", &one), Some(expected.clone()));
    let mut endless = expected;
    endless["exp"] = Value::Null;
    assert_eq!(world.record("partners", &lasting), Some(endless));
    let kept: Vec<Option<u64>> = world.1.kept_s.borrow().values().copied().collect();
    assert!(kept.contains(&None) && kept.contains(&Some(3600 + limits::API_KEY_EXPIRED_S)), "{kept:?}");
    assert!(world.1.store.borrow().iter().all(|(name, text)| {
        ![one.as_str(), lasting.as_str()].iter().any(|secret| name.contains(secret) || text.contains(secret))
    }));
    // Within the leeway, in the time for which the record is kept, and later.
    world.1.advance(3_600_000 + 29_000);
    assert_eq!(world.says("/me", &one), OK);
    world.1.advance(2_000);
    assert_eq!(world.says("/me", &one), (401, "token_expired"));
    assert_eq!(world.says("/me", &lasting), OK);
    // A repeated creation of a key that has expired long ago is no record, and no fault.
    world.1.advance(2 * 86_400_000);
    let late = json!({ "iat": now, "exp": now + 3600 });
    let writes = world.1.kept_s.borrow().len();
    world.create("partners", &key("pck", 3), &late);
    assert_eq!(world.1.kept_s.borrow().len(), writes);
    world.1.advance(366 * 86_400_000);
    assert_eq!(world.says("/me", &lasting), OK, "a key without exp has no longest lifetime");
}

#[test]
fn a_text_that_is_no_active_key_is_refused() {
    let world = World::new();
    let good = key("pck", 1);
    world.create("partners", &good, &json!({}));
    world.create("devices", &key("dev", 1), &json!({ "id": "k9" }));
    world.create("strict", &key("str", 1), &json!({ "id": "k10", "owner": "eve" }));
    let text = good.as_str();
    let longer = format!("{text}0");
    let upper = text.to_uppercase();
    let mistyped = text.replacen("01", "10", 1);
    for (attack, shown, expected, reads) in [
        ("an unknown key", key("pck", 9).as_str(), INACTIVE, 1),
        ("the same again", key("pck", 9).as_str(), INACTIVE, 0),
        ("a mistyped key", &mistyped, MALFORMED, 0),
        ("a shortened key", &text[..51], MALFORMED, 0),
        ("a longer key", &longer, MALFORMED, 0),
        ("the prefix alone", "pck_", MALFORMED, 0),
        ("a digest instead of a key", &good.digest(), (503, "introspection_unavailable"), 0),
        ("the digits with another issuer's prefix", key("own", 1).as_str(), INACTIVE, 1),
        ("a checksum of another prefix", &text.replacen("pck", "own", 1), MALFORMED, 0),
        ("a key of a header in Authorization", key("dev", 1).as_str(), (401, "token_source_invalid"), 0),
        ("a key that the policy does not accept", key("str", 1).as_str(), (401, "token_requirement_unmet"), 1),
        ("a key in upper case", &upper, (503, "introspection_unavailable"), 0),
        ("the key", text, OK, 1),
    ] {
        let before = world.1.store_reads.get();
        assert_eq!(verdict(&world.1.send_token(&world.0, "GET", "/me", shown)), expected, "{attack}");
        assert_eq!(world.1.store_reads.get() - before, reads, "{attack}");
    }
    // What has the prefix of a key is shown to no other server.
    let asked = format!("{:?}", world.1.questions.borrow());
    assert!(!asked.contains("pck_") && !asked.contains("own_") && !asked.contains("dev_"), "{asked}");
    // A key of a header is accepted there alone.
    let headers = [("x-api-key", key("dev", 1)), ("x-api-key", good)];
    let said = headers.map(|(name, key)| verdict(&world.1.send(&world.0, "GET", "/me", &[(name, key.as_str())])));
    assert_eq!(said, [OK, (401, "token_source_invalid")]);
}

#[test]
fn a_record_that_is_not_one_is_the_fault_of_the_store() {
    let world = World::new();
    let now = world.now();
    let good = json!({ "sub": "k1", "jti": "k1", "owner": "ada", "scope": "read", "iat": now });
    let mut seed = 20;
    for (what, record, expected) in [
        ("a record", good.to_string(), OK),
        ("one of a key that has ended", "{\"ended\":true}".to_owned(), INACTIVE),
        ("one that is both", with(good.clone(), &json!({ "ended": false })).to_string(), INACTIVE),
        ("nothing", String::new(), UNAVAILABLE),
        ("no JSON", "ended".to_owned(), UNAVAILABLE),
        ("a list", "[]".to_owned(), UNAVAILABLE),
        ("an empty object", "{}".to_owned(), UNAVAILABLE),
        ("without an id", with(good.clone(), &json!({ "jti": null })).to_string(), UNAVAILABLE),
        ("of another issuer", with(good.clone(), &json!({ "iss": "id" })).to_string(), UNAVAILABLE),
        ("a subject that is no text", with(good.clone(), &json!({ "sub": 7 })).to_string(), UNAVAILABLE),
        ("a date that is no date", with(good.clone(), &json!({ "exp": "soon" })).to_string(), UNAVAILABLE),
        ("a member twice", good.to_string().replacen('{', "{\"sub\":\"k2\",", 1), UNAVAILABLE),
        (
            "of a day to come",
            with(good, &json!({ "iat": now + 86_400, "exp": now + 90_000 })).to_string(),
            (401, "token_not_yet_valid"),
        ),
    ] {
        seed += 1;
        let shown = key("pck", seed);
        world.write(&shown, &record);
        let seen = world.get("/me", &shown);
        assert_eq!(verdict(&seen), expected, "{what}");
        if expected == UNAVAILABLE {
            assert_eq!(seen.record.detail.as_deref(), Some("record_unusable"), "{what}");
            assert_eq!(header(answer(&seen), "retry-after"), Some("5"), "{what}");
        }
    }
}

#[test]
fn a_store_that_fails_refuses_no_key_that_is_cached() {
    let world = World::new();
    let (known, new) = (key("pck", 1), key("pck", 2));
    world.create("partners", &known, &json!({}));
    world.create("partners", &new, &json!({ "id": "k2" }));
    assert_eq!(world.says("/me", &known), OK);
    world.1.store_fails.set(true);
    assert_eq!((world.says("/me", &known), world.says("/me", &new)), (OK, UNAVAILABLE));
    let status: Value = serde_json::from_str(&answer(&world.1.send_as_operator(&world.0, "/status")).body).unwrap();
    let part = status["issuers"].as_array().unwrap().iter().find(|issuer| issuer["name"] == "partners").unwrap();
    let expected = json!({ "name": "partners", "status": "degraded", "api_keys": "pck", "last_error": "store_failed" });
    assert_eq!(*part, expected);
    let ready: Value = serde_json::from_str(&answer(&world.1.send_as_operator(&world.0, "/ready")).body).unwrap();
    assert!(ready["missing"].to_string().contains("the API keys of issuer partners"), "{ready}");
    let body = json!({ "issuer": "partners-keys", "keys": [world.item(&key("pck", 3), &json!({ "id": "k3" }))] });
    let pushed = world.push(&body);
    assert_eq!((verdict(&pushed), header(answer(&pushed), "retry-after")), (UNAVAILABLE, Some("5")));
    world.1.store_fails.set(false);
    // The failure is not remembered.
    assert_eq!((world.says("/me", &new), world.push(&body).record.code), (OK, None));
    world.1.advance(5 * 60_000);
    world.1.store_fails.set(true);
    assert_eq!(world.says("/me", &known), UNAVAILABLE, "a key is cached for five minutes");
}

#[test]
fn an_address_beyond_its_limit_causes_no_read() {
    let world = World::new();
    let good = key("pck", 1);
    world.create("partners", &good, &json!({}));
    world.1.limit.set(3);
    let send = |key: &ApiKey| {
        let bearer = format!("Bearer {}", key.as_str());
        verdict(&world.1.send(&world.0, "GET", "/me", &[("authorization", &bearer), ("cf-connecting-ip", "192.0.2.1")]))
    };
    assert_eq!(send(&good), OK);
    for seed in 50..54 {
        assert_eq!(send(&key("pck", seed)), INACTIVE, "{seed}");
    }
    let reads = world.1.store_reads.get();
    assert_eq!(send(&key("pck", 54)), (429, "rate_limited"));
    assert_eq!(world.1.store_reads.get(), reads);
    assert_eq!(send(&good), OK, "a key that was good there is no guess");
}

#[test]
fn a_key_that_has_ended_is_refused_at_once_and_never_revived() {
    let world = World::new();
    let one = key("pck", 1);
    let creation = json!({ "issuer": "partners-keys", "keys": [world.item(&one, &json!({}))] });
    assert_eq!(pushed_of(&world.push(&creation)).0, 200);
    assert_eq!(world.says("/me", &one), OK);
    assert_eq!(pushed_of(&world.push(&ended(&one))), (200, json!({ "keys": 0, "ended": 1 })));
    assert_eq!((world.says("/me", &one), world.says("/strict", &one)), (REVOKED, REVOKED));
    let tombstone = Some(json!({ "ended": true }));
    assert_eq!(world.record("partners", &one), tombstone);
    // The record of the creation may still be in another location.
    world.write(&one, &json!({ "sub": "k1", "jti": "k1", "owner": "ada", "iat": world.now() }).to_string());
    world.1.advance(STALE_MS + 1);
    let (twin, _) = setup(&policy());
    assert_eq!(verdict(&world.1.send_token(&twin, "GET", "/me", one.as_str())), REVOKED);
    // A creation that is repeated ends it again.
    assert_eq!(pushed_of(&world.push(&creation)).0, 200);
    assert_eq!(world.record("partners", &one), tombstone);
    let kept = world.1.kept_s.borrow().values().copied().collect::<Vec<_>>();
    assert_eq!(kept, [Some(limits::API_KEY_END_S)]);
    let entry = world.1.log.borrow().entries.last().unwrap().1;
    assert!(entry.keep_until >= world.now() + 86_400, "{entry:?}");
    // Both in one push.
    let two = key("pck", 2);
    let both = json!({
        "issuer": "partners-keys",
        "keys": [world.item(&two, &json!({}))],
        "ended": [{ "digest": one.digest(), "id": "k1" }],
    });
    assert_eq!(pushed_of(&world.push(&both)).0, 200);
    assert_eq!(world.record("partners", &two), tombstone, "another key with the id of an ended one");
}

#[test]
fn a_key_that_ends_while_its_creation_is_written_is_ended_by_the_repetition() {
    let world = World::new();
    let one = key("pck", 1);
    let creation = json!({ "issuer": "partners-keys", "keys": [world.item(&one, &json!({}))] });
    let revoked = RevocationKey::new(RevocationKind::Token, "partners-keys", "k1");
    let until = world.now() + 86_400;
    *world.1.ended_meanwhile.borrow_mut() =
        Some(RevocationEntry { key: revoked, issued_until: limits::DATE_SECS, keep_until: until });
    let pushed = world.push(&creation);
    assert_eq!((verdict(&pushed), pushed.record.detail.as_deref()), (UNAVAILABLE, Some("ended_meanwhile")));
    assert_eq!(pushed_of(&world.push(&creation)).0, 200);
    assert_eq!(world.record("partners", &one), Some(json!({ "ended": true })));
    world.1.advance(STALE_MS + 1);
    assert_eq!(world.says("/me", &one), INACTIVE);
}

#[test]
fn a_logout_ends_no_key() {
    let world = World::new();
    let one = key("pck", 1);
    world.create("partners", &one, &json!({}));
    let seen = world.get("/logout", &one);
    assert!(seen.record.detail.as_deref().unwrap().contains("is an API key"), "{:?}", seen.record.detail);
    assert_eq!(world.says("/me", &one), OK);
}

#[test]
fn only_the_service_of_the_named_issuer_pushes_keys() {
    let world = World::new();
    let one = key("pck", 1);
    world.create("partners", &one, &json!({}));
    let body = json!({ "issuer": "partners-keys", "keys": [world.item(&key("pck", 2), &json!({}))] });
    let access = Signer::new(7).sign("at+jwt", &claims_at(world.now()));
    for (who, token, expected) in [
        ("a user", access, (401, "token_type_header_invalid")),
        ("an API key", one.as_str().to_owned(), MALFORMED),
        ("another service", world.service_token(7, &json!({ "sub": "users" })), (401, "token_requirement_unmet")),
        (
            "a service for another audience",
            world.service_token(7, &json!({ "aud": "users" })),
            (401, "token_audience_invalid"),
        ),
        ("the service of another issuer", world.service_token(8, &json!({})), (403, "rights_missing")),
        (
            "a service whose token is bound",
            world.service_token(7, &json!({ "cnf": { "jkt": "x".repeat(43) } })),
            (401, "token_bound"),
        ),
    ] {
        let seen = world.push_as(&token, &body);
        assert_eq!(verdict(&seen), expected, "{who}");
        let event: Value = serde_json::from_str(&seen.record.audit_event().unwrap()).unwrap();
        assert_eq!((&event["event_type"], &event["result"]), (&json!("gateway.api_keys"), &json!("denied")), "{who}");
    }
    assert_eq!(world.record("partners", &key("pck", 2)), None);
    let seen = world.push(&body);
    let event: Value = serde_json::from_str(&seen.record.audit_event().unwrap()).unwrap();
    assert_eq!((&event["result"], &event["detail"]), (&json!("success"), &json!("stored")));
    let (without, ports) = setup(crate::fakes::ME_POLICY);
    assert_eq!(verdict(&ports.send_token(&without, "POST", PUSH, "x")), (404, "route_unknown"));
    assert_eq!(verdict(&world.1.send_token(&world.0, "GET", PUSH, "x")), (405, "method_not_allowed"));
}

#[test]
fn a_push_that_is_malformed_changes_nothing() {
    let world = World::new();
    let (one, two) = (key("pck", 1), key("pck", 2));
    let push = |keys: Value| json!({ "issuer": "partners-keys", "keys": keys }).to_string();
    let good = world.item(&one, &json!({}));
    let changed = |changes: Value| push(json!([with(good.clone(), &changes)]));
    let many: Vec<Value> =
        (0..101).map(|seed| world.item(&key("pck", seed), &json!({ "id": seed.to_string() }))).collect();
    for (what, body, detail) in [
        ("no JSON", "secret".to_owned(), "not a JSON object"),
        ("a list", "[]".to_owned(), "not a JSON object"),
        ("a member twice", push(json!([])).replacen('{', "{\"issuer\":\"x\",", 1), "repeated members"),
        ("no issuer", json!({ "keys": [] }).to_string(), "issuer is no text"),
        ("another member", json!({ "issuer": "partners-keys", "created": [] }).to_string(), "other members"),
        ("keys that are no list", push(json!({})), "keys is no list"),
        ("more than 100 keys", push(many.into()), "more than 100 keys"),
        ("no object", push(json!(["secret"])), "keys[0]: it is no object"),
        ("the key itself", changed(json!({ "key": one.as_str() })), "keys[0]: it has an unknown member"),
        ("a key as its digest", changed(json!({ "digest": one.as_str() })), "keys[0]: digest"),
        ("no digest", changed(json!({ "digest": null })), "keys[0]: digest"),
        ("an empty id", changed(json!({ "id": "" })), "keys[0]: id"),
        ("an id with a line break", changed(json!({ "id": "a\nsecret" })), "keys[0]: id"),
        ("a long owner", changed(json!({ "owner": "s".repeat(limits::CLAIM_BYTES + 1) })), "keys[0]: owner"),
        ("scopes that are a list", changed(json!({ "scope": ["read"] })), "keys[0]: scope"),
        ("a long scope", changed(json!({ "scope": "s".repeat(limits::SCOPE_BYTES + 1) })), "keys[0]: scope"),
        ("no iat", changed(json!({ "iat": null })), "keys[0]: iat"),
        ("milliseconds", changed(json!({ "iat": 1_800_000_000_000_u64 })), "keys[0]: iat"),
        ("exp before iat", changed(json!({ "exp": 5 })), "keys[0]: exp"),
        ("exp that is a text", changed(json!({ "exp": "2030" })), "keys[0]: exp"),
        ("a digest twice", push(json!([good, with(good.clone(), &json!({ "id": "k2" }))])), "keys[1]: its digest"),
        (
            "an end with an owner",
            json!({ "issuer": "partners-keys", "ended": [{ "digest": two.digest(), "id": "k2", "owner": "secret" }] })
                .to_string(),
            "ended[0]: it has",
        ),
    ] {
        *world.1.body.borrow_mut() = body.into_bytes();
        let seen = world.1.send_token(&world.0, "POST", PUSH, &world.service_token(7, &json!({})));
        assert_eq!(verdict(&seen), (400, "api_keys_malformed"), "{what}");
        let text = &answer(&seen).body;
        assert!(text.contains(detail) && !text.contains("secret") && !text.contains(one.as_str()), "{what}: {text}");
    }
    *world.1.body.borrow_mut() = vec![b' '; limits::API_KEYS_BYTES + 1];
    let seen = world.1.send_token(&world.0, "POST", PUSH, &world.service_token(7, &json!({})));
    assert_eq!(verdict(&seen), (413, "body_too_large"));
    // No fault of the items, so the pusher repeats it.
    let other = json!({ "issuer": "https://id.example", "keys": [good] });
    assert_eq!(verdict(&world.push(&other)), (404, "route_unknown"));
    assert!(world.1.store.borrow().is_empty() && world.1.log.borrow().entries.is_empty());
}

#[test]
fn a_log_that_fails_ends_nothing_halfway() {
    let world = World::new();
    let one = key("pck", 1);
    world.create("partners", &one, &json!({}));
    world.1.log.borrow_mut().fault = Some(portcullis::pipeline::wire::Fault::TimedOut);
    let writes = world.1.store_writes.get();
    for body in [ended(&one), json!({ "issuer": "partners-keys", "keys": [world.item(&one, &json!({}))] })] {
        assert_eq!(verdict(&world.push(&body)), (503, "revocation_unavailable"));
    }
    assert_eq!(world.1.store_writes.get(), writes);
}

#[test]
fn results_are_counted_by_issuer() {
    let settings = |name: &str| {
        if name == "METRICS_TOKEN" { Some("t".repeat(16)) } else { crate::fakes::setting(name) }
    };
    let world = World(crate::fakes::configured(&policy(), settings).unwrap(), FakePorts::new());
    let one = key("pck", 1);
    world.create("partners", &one, &json!({}));
    for shown in [&one, &one, &key("pck", 2), &key("pck", 2)] {
        world.get("/me", shown);
    }
    world.1.send_token(&world.0, "GET", "/me", "pck_");
    world.1.store_fails.set(true);
    world.get("/me", &key("pck", 3));
    let page = answer(&world.1.send_token(&world.0, "GET", "/metrics", &"t".repeat(16))).body.clone();
    for (result, count) in [("active", 1), ("refused", 2), ("malformed", 1), ("failed", 1), ("pushed", 1)] {
        let line = format!("gateway_api_keys_total{{issuer=\"partners\",result=\"{result}\"}} {count}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[test]
fn a_policy_with_unusable_api_keys_is_refused() {
    let keys = "[issuers.keys]\nissuer = \"keys\"\napi_keys = { prefix = \"pck\", from = \"id\" }\n";
    let all = |text: &str| {
        let upstream = "[upstreams.app]\nurl = \"https://app.example\"\n";
        let route = "[[routes]]\npath = \"/me\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\n";
        check(&[&issuer_table("id", 7, "revocations_from = \"accounts\""), text, upstream, route].concat())
    };
    assert!(all(keys).is_ok() && all(&format!("{keys}token_header = \"X-Api-Key\"\n")).is_ok());
    let plain = issuer_table("plain", 8, "");
    for (what, text, message) in [
        ("an audience", format!("{keys}audience = [\"api\"]\n"), "audience does not go with api_keys"),
        ("a claim for it", format!("{keys}audience_claim = \"azp\"\n"), "audience_claim does not go with api_keys"),
        ("a lifetime", format!("{keys}max_lifetime_s = 900\n"), "max_lifetime_s does not go with api_keys"),
        ("proofs", format!("{keys}proof = \"optional\"\n"), "proof does not go with api_keys"),
        (
            "introspection",
            format!("{keys}introspection = {{ url = \"https://o.example/\" }}\n"),
            "introspection does not go with api_keys",
        ),
        ("keys of signatures", format!("{keys}jwks_url = \"https://o.example/\"\n"), "has no keys"),
        ("algorithms", format!("{keys}algorithms = [\"RS256\"]\n"), "algorithms is for tokens with a signature"),
        (
            "pushed revocations",
            format!("{keys}revocations_from = \"accounts\"\n"),
            "revocations_from is for tokens with",
        ),
        ("a short prefix", keys.replace("pck", "p"), "prefix is not 2 to 16"),
        ("a long prefix", keys.replace("pck", "abcdefghijklmnopq"), "prefix is not 2 to 16"),
        ("a prefix in upper case", keys.replace("pck", "PCK"), "prefix is not 2 to 16"),
        ("a prefix with an underscore", keys.replace("pck", "pck_live"), "prefix is not 2 to 16"),
        (
            "a prefix twice",
            [keys, &keys.replace("issuers.keys", "issuers.more").replace("\"keys\"", "\"more\"")].concat(),
            "another issuer has the same prefix",
        ),
        ("an unknown service", keys.replace("\"id\"", "\"ID\""), "from names no issuer with revocations_from"),
        (
            "an issuer without a service",
            [plain.as_str(), &keys.replace("\"id\"", "\"plain\"")].concat(),
            "from names no issuer with revocations_from",
        ),
        ("the issuer itself", keys.replace("\"id\"", "\"keys\""), "from names no issuer with revocations_from"),
    ] {
        let mistakes = all(&text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(mistakes.iter().any(|mistake| mistake.contains(message)), "{what}: {mistakes:#?}");
    }
}
