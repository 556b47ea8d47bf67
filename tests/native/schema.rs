//! `gateway.schema.json` and `docs/policy.md` match the types of the policy, and their bounds and defaults
//! those of the validation. `npm run docs` writes both.

use std::{env, fs, path::Path};

use portcullis_policy::check;
use serde_json::Value;

use crate::{
    json_schema::{schema, schema_text},
    reference::reference,
};

#[test]
fn the_committed_schema_and_reference_are_up_to_date() {
    for (name, expected) in [("gateway.schema.json", schema_text()), ("docs/policy.md", reference())] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &expected).unwrap();
        }
        let is_current = fs::read_to_string(&file).is_ok_and(|text| text == expected);
        assert!(is_current, "{name} is out of date; run: npm run docs");
    }
}

#[test]
fn the_schema_has_the_ranges_and_defaults_of_the_validation() {
    const VALID: &str = "[issuers.id]\nissuer = \"a\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://a.example/\"\nISSUER\n\
                         [issuers.opaque]\nissuer = \"c\"\naudience = [\"b\"]\nintrospection = { url = \"https://d.example\" }\n\
                         [upstreams.shop]\nurl = \"https://b.example\"\nUPSTREAM\n\
                         [limits.l]\nby = \"ip\"\nLIMIT\n[authorizers.p]\nurl = \"https://c.example\"\nAUTHORIZER\n[cors.c]\norigins = [\"*\"]\nCORS\nREVOCATION\n\
                         [[routes]]\npath = \"/a\"\nmethods = [\"GET\"]\nupstream = \"shop\"\naccess = \"user\"\nROUTE\n";
    let with = |place: &str, text: &str| {
        let mut file = VALID.replace(place, text);
        for other in ["ISSUER", "UPSTREAM", "LIMIT", "AUTHORIZER", "CORS", "REVOCATION", "ROUTE"] {
            file = file.replace(&format!("\n{other}\n"), "\n\n");
        }
        file
    };
    let schema = schema();
    let plain = check(&with("none", "")).unwrap();
    let tables = [
        ("Issuer", "ISSUER", "{}"),
        ("Upstream", "UPSTREAM", "{}"),
        ("UpstreamTarget", "url = \"https://b.example\"", "targets = [{ url = \"https://b.example\", {} }]"),
        ("Breaker", "UPSTREAM", "breaker = { {} }"),
        ("Maintenance", "UPSTREAM", "maintenance = { {} }"),
        ("Limit", "LIMIT", "{}"),
        ("Authorizer", "AUTHORIZER", "{}"),
        ("Introspection", "url = \"https://d.example\"", "url = \"https://d.example\", {}"),
        ("Cors", "CORS", "{}"),
        ("Revocation", "REVOCATION", "[revocation]\n{}"),
        ("Route", "ROUTE", "{}"),
    ];
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let mut properties = definition["properties"].as_object().into_iter().flatten();
        let has_range = properties.any(|(_, property)| property["type"] == "integer");
        assert!(!has_range || tables.iter().any(|(known, ..)| known == name), "no row for {name}");
    }
    for (name, place, wrap) in tables {
        let properties = schema["$defs"][name]["properties"].as_object().unwrap();
        let mut checked = 0;
        for (key, property) in properties {
            let line = |value: i64| with(place, &wrap.replace("{}", &format!("{key} = {value}")));
            if property["type"] == "integer" {
                let (least, most) = (property["minimum"].as_i64().unwrap(), property["maximum"].as_i64().unwrap());
                assert!(check(&line(least)).is_ok(), "{key} = {least}");
                assert!(check(&line(most)).is_ok(), "{key} = {most}");
                assert!(check(&line(least - 1)).is_err(), "{key} = {least} - 1");
                assert!(check(&line(most + 1)).is_err(), "{key} = {most} + 1");
                checked += 1;
            }
            let default = match &property["default"] {
                Value::Null | Value::Object(_) => continue,
                Value::String(text) => format!("\"{text}\""),
                other => other.to_string(),
            };
            // A maintenance of the default length is one, all the same.
            if name == "Maintenance" {
                continue;
            }
            let spelt = check(&with(place, &wrap.replace("{}", &format!("{key} = {default}"))));
            assert_eq!(spelt.as_ref(), Ok(&plain), "{key} = {default}");
            checked += 1;
        }
        assert!(checked > 0, "{name}");
    }
}
