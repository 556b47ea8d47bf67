//! `gateway.schema.json`, which editors complete from, knows the keys that the checker
//! knows, and the same defaults: neither more nor fewer, in every table.

use std::collections::BTreeSet;

use portcullis::config::check;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../gateway.schema.json");

/// Each table: where the schema has it, and a file with the key `surprise` in it.
const TABLES: &[(&str, &str)] = &[
    ("", "surprise = 1"),
    ("/properties/revocation", "[revocation]\nsurprise = 1"),
    ("/properties/token_cookie", "[token_cookie]\nsurprise = 1"),
    ("/$defs/issuer", "[issuers.id]\nsurprise = 1"),
    ("/$defs/issuer/properties/claims", "[issuers.id]\nclaims = { surprise = 1 }"),
    ("/$defs/require", "[issuers.id]\nrequire = [{ surprise = 1 }]"),
    ("/$defs/upstream", "[upstreams.shop]\nsurprise = 1"),
    ("/$defs/upstream/properties/targets/items", "[upstreams.shop]\ntargets = [{ surprise = 1 }]"),
    ("/$defs/upstream/properties/breaker", "[upstreams.shop]\nbreaker = { surprise = 1 }"),
    ("/$defs/upstream/properties/maintenance", "[upstreams.shop]\nmaintenance = { surprise = 1 }"),
    ("/$defs/limit", "[limits.login]\nsurprise = 1"),
    ("/$defs/cors", "[cors.app]\nsurprise = 1"),
    ("/$defs/route", "[[routes]]\nsurprise = 1"),
    ("/$defs/route/properties/variants/oneOf/1", "[[routes]]\nvariants = { surprise = 1 }"),
    ("/$defs/header_rules", "[[routes]]\nrequest_headers = { surprise = 1 }"),
    ("/$defs/header_rules", "[[routes]]\nresponse_headers = { surprise = 1 }"),
    ("/$defs/route/properties/replace_prefix", "[[routes]]\nreplace_prefix = { surprise = 1 }"),
];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

#[test]
fn the_schema_has_the_keys_that_the_checker_takes_in_every_table() {
    let schema = schema();
    for (pointer, text) in TABLES {
        let properties = schema.pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        let said: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let message = check(text).unwrap_err().remove(0).message;
        // "unknown field `surprise`, expected one of `a`, `b`"
        let taken: BTreeSet<&str> = message.split('`').skip(1).step_by(2).filter(|name| *name != "surprise").collect();
        assert!(message.contains("surprise"), "{pointer}: {message}");
        assert_eq!(said, taken, "{pointer}");
    }
}

#[test]
fn every_closed_table_of_the_schema_is_held_against_the_checker() {
    fn closed(value: &Value) -> usize {
        let own = usize::from(value.get("additionalProperties") == Some(&Value::Bool(false)));
        let inner: usize = match value {
            Value::Object(map) => map.values().map(closed).sum(),
            Value::Array(list) => list.iter().map(closed).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        };
        own + inner
    }
    // The seven shapes of an access rule are no tables of the file; schema.test.js
    // has a case for each.
    let access = schema().pointer("/$defs/access").map(closed).unwrap();
    let tables: BTreeSet<&str> = TABLES.iter().map(|(pointer, _)| *pointer).collect();
    assert_eq!(closed(&schema()) - access, tables.len());
}

#[test]
fn the_ranges_and_defaults_of_the_schema_are_the_checkers() {
    const SOUND: &str = "[issuers.id]\nissuer = \"a\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://a.example/\"\nISSUER\n\
                         [upstreams.shop]\nurl = \"https://b.example\"\nUPSTREAM\n\
                         [limits.l]\nby = \"ip\"\nLIMIT\n[cors.c]\norigins = [\"*\"]\nCORS\nREVOCATION\n\
                         [[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\nupstream = \"shop\"\naccess = \"user\"\nROUTE\n";
    let with = |place: &str, text: &str| {
        let mut file = SOUND.replace(place, text);
        for other in ["ISSUER", "UPSTREAM", "LIMIT", "CORS", "REVOCATION", "ROUTE"] {
            file = file.replace(&format!("\n{other}\n"), "\n\n");
        }
        file
    };
    let schema = schema();
    let plain = check(&with("none", "")).unwrap();
    for (pointer, place, wrap) in [
        ("/$defs/issuer", "ISSUER", "{}"),
        ("/$defs/upstream", "UPSTREAM", "{}"),
        ("/$defs/upstream/properties/breaker", "UPSTREAM", "breaker = { {} }"),
        ("/$defs/upstream/properties/maintenance", "UPSTREAM", "maintenance = { {} }"),
        ("/$defs/limit", "LIMIT", "{}"),
        ("/$defs/cors", "CORS", "{}"),
        ("/properties/revocation", "REVOCATION", "[revocation]\n{}"),
        ("/$defs/route", "ROUTE", "{}"),
    ] {
        let properties = schema.pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        let mut seen = 0;
        for (key, property) in properties {
            let line = |value: i64| with(place, &wrap.replace("{}", &format!("{key} = {value}")));
            if property["type"] == "integer" {
                let (least, most) = (property["minimum"].as_i64().unwrap(), property["maximum"].as_i64().unwrap());
                assert!(check(&line(least)).is_ok(), "{key} = {least}");
                assert!(check(&line(most)).is_ok(), "{key} = {most}");
                assert!(check(&line(least - 1)).is_err(), "{key} = {least} - 1");
                assert!(check(&line(most + 1)).is_err(), "{key} = {most} + 1");
            }
            seen += 1;
            let default = match &property["default"] {
                Value::Null => continue,
                Value::String(text) => format!("\"{text}\""),
                other => other.to_string(),
            };
            // An issuer says where its keys are just once.
            if key == "discovery" {
                continue;
            }
            // A maintenance of the default length is one, all the same.
            if pointer.ends_with("maintenance") {
                continue;
            }
            let spelt = check(&with(place, &wrap.replace("{}", &format!("{key} = {default}"))));
            assert_eq!(spelt.as_ref(), Ok(&plain), "{key} = {default}");
        }
        assert!(seen > 0, "{pointer}");
    }
}
