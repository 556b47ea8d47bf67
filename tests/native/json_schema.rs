//! The JSON Schema of the policy document, generated from its types. `gateway.schema.json` and
//! `docs/policy.md` are made of it and committed; `schema.rs` holds both.

use portcullis_policy::{
    COOKIE_PREFIX, METHODS, Policy,
    limits::{self, Bounds},
    provider_names,
};
use portcullis_token::{Algorithm, keys::limits::KEYS};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Returns the JSON Schema (draft 2020-12).
pub(crate) fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Policy>().to_value();
    simplify(&mut schema);
    for (name, rule) in access_rules() {
        schema["$defs"][name] = rule;
    }
    for (table, option, facts) in facts() {
        let table = if table == "Policy" { String::new() } else { format!("/$defs/{table}") };
        let pointer = if option.is_empty() { table } else { format!("{table}/properties/{option}") };
        let Some(place) = schema.pointer_mut(&pointer).and_then(Value::as_object_mut) else { continue };
        if facts.get("oneOf").is_some() && !option.is_empty() {
            place.retain(|key, _| key == "description");
        }
        if facts.get("minItems").is_some() {
            place.remove("default");
        }
        place.extend(facts.as_object().cloned().unwrap_or_default());
    }
    schema
}

/// Returns what the types do not say: table, option (empty for the table itself) and facts.
fn facts() -> Vec<(&'static str, &'static str, Value)> {
    let range = |bounds: Bounds| json!({ "type": "integer", "minimum": bounds.start(), "maximum": bounds.end() });
    let table_names = json!({ "pattern": format!("^[a-z0-9-]{{1,{}}}$", limits::NAME_BYTES) });
    let named = json!({ "propertyNames": table_names });
    let words = |words: &[&str]| json!({ "minItems": 1, "maxItems": limits::NAMES, "items": { "enum": words } });
    let some = |count: usize| json!({ "minItems": 1, "maxItems": count });
    let text = json!({ "minLength": 1, "maxLength": limits::TEXT_BYTES });
    let short = json!({ "maxLength": limits::TEXT_BYTES });
    let path = json!({ "pattern": "^/", "maxLength": limits::TEXT_BYTES });
    let name = json!({ "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES });
    let names = json!({ "minItems": 1, "maxItems": limits::NAMES, "items": name });
    let headers = json!({ "pattern": format!("^[A-Za-z0-9_-]{{1,{}}}$", limits::HEADER_NAME_BYTES), "type": "string" });
    let scope = json!({ "type": "string", "pattern": "^[!#-\\[\\]-~]+$", "maxLength": limits::TEXT_BYTES });
    let algorithms: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    let cookie = format!("^{COOKIE_PREFIX}[A-Za-z0-9_-]{{1,{}}}$", limits::NAME_BYTES - COOKIE_PREFIX.len());
    vec![
        ("Policy", "", json!({ "title": "Portcullis policy (gateway.toml)", "required": ["routes", "upstreams"] })),
        ("Policy", "version", range(1..=1)),
        ("Policy", "issuers", named.clone()),
        ("Policy", "upstreams", json!({ "minProperties": 1, "propertyNames": table_names })),
        ("Policy", "limits", named.clone()),
        ("Policy", "cors", named.clone()),
        ("Policy", "authorizers", named),
        ("Policy", "refusals", json!({ "propertyNames": table_names, "maxProperties": limits::REFUSALS })),
        ("Policy", "routes", some(limits::ROUTES)),
        ("Policy", "public_url", short.clone()),
        ("Policy", "resources", json!({ "maxItems": limits::RESOURCES })),
        ("Resource", "path", path.clone()),
        ("Resource", "authorization_servers", names.clone()),
        ("Resource", "scopes_supported", json!({ "maxItems": limits::NAMES, "items": scope })),
        ("Resource", "resource_name", text.clone()),
        ("Resource", "resource_documentation", short.clone()),
        ("Issuer", "", issuer_choices()),
        ("Issuer", "provider", json!({ "enum": provider_names() })),
        ("Issuer", "issuer", text.clone()),
        ("Issuer", "token_header", headers.clone()),
        ("Issuer", "tenants", some(limits::TENANTS)),
        ("Issuer", "audience", names.clone()),
        (
            "ApiKeys",
            "prefix",
            json!({ "pattern": format!("^[a-z0-9]{{{},{}}}$", limits::API_KEY_PREFIX_BYTES.start(), limits::API_KEY_PREFIX_BYTES.end()) }),
        ),
        ("ApiKeys", "from", table_names),
        ("Issuer", "audience_claim", claim_path()),
        ("Issuer", "algorithms", words(&algorithms)),
        (
            "Issuer",
            "types",
            json!({ "maxItems": limits::NAMES, "items": { "type": "string", "maxLength": limits::TEXT_BYTES } }),
        ),
        ("Issuer", "require", json!({ "maxItems": limits::ACCESS_RULES, "items": claim_rule() })),
        ("Issuer", "leeway_s", range(limits::LEEWAY_S)),
        ("Issuer", "max_lifetime_s", range(limits::LIFETIME_S)),
        ("Issuer", "jwks_path", path.clone()),
        ("Issuer", "jwks_file", text.clone()),
        ("Issuer", "jwks_url", short.clone()),
        ("Issuer", "jwks", key_set()),
        ("Issuer", "revocations_from", text.clone()),
        ("Issuer", "token_type", short.clone()),
        ("Logout", "audience", names.clone()),
        ("Events", "audience", names.clone()),
        ("Events", "issuer", text.clone()),
        ("Claims", "user_id", claim_path()),
        ("Claims", "email", claim_path()),
        ("Claims", "roles", claim_path()),
        ("Claims", "scopes", claim_path()),
        ("Claims", "session", claim_path()),
        (
            "Upstream",
            "",
            json!({ "not": { "required": ["url", "targets"] }, "anyOf": [{ "required": ["url"] }, { "required": ["targets"] }, { "required": ["binding"] }] }),
        ),
        (
            "Upstream",
            "binding",
            json!({ "pattern": format!("^[A-Za-z_][A-Za-z0-9_]{{0,{}}}$", limits::BINDING_BYTES - 1) }),
        ),
        ("Upstream", "url", short.clone()),
        ("Upstream", "targets", some(limits::TARGETS)),
        ("Upstream", "openapi", text),
        ("Upstream", "openapi_prefix", path.clone()),
        ("Upstream", "timeout_ms", range(limits::TIMEOUT_MS)),
        ("Upstream", "body_timeout_ms", range(limits::BODY_TIMEOUT_MS)),
        ("Upstream", "idle_timeout_ms", range(limits::IDLE_TIMEOUT_MS)),
        ("Upstream", "retries", range(limits::RETRIES)),
        ("Upstream", "max_concurrent", range(limits::CONCURRENT)),
        ("UpstreamTarget", "url", short.clone()),
        ("UpstreamTarget", "weight", range(limits::WEIGHT)),
        ("Assertion", "claims", json!({ "maxItems": limits::ASSERTED_CLAIMS, "uniqueItems": true, "items": name })),
        ("Breaker", "failures", range(limits::BREAKER_FAILURES)),
        ("Breaker", "open_s", range(limits::BREAKER_OPEN_S)),
        ("Maintenance", "retry_after_s", range(limits::MAINTENANCE_S)),
        ("Revocation", "max_age_s", range(limits::REVOCATION_AGE_S)),
        ("Authorizer", "url", short.clone()),
        ("Authorizer", "timeout_ms", range(limits::BACKCHANNEL_TIMEOUT_MS)),
        ("Authorizer", "cache_s", range(limits::AUTHORIZER_CACHE_S)),
        ("Introspection", "url", short.clone()),
        ("Introspection", "client_id", short.clone()),
        ("Introspection", "timeout_ms", range(limits::BACKCHANNEL_TIMEOUT_MS)),
        ("Introspection", "cache_s", range(limits::INTROSPECTION_CACHE_S)),
        ("Limit", "retry_after_s", range(limits::RETRY_AFTER_S)),
        ("Cors", "origins", names),
        ("Cors", "headers", json!({ "maxItems": limits::NAMES, "items": headers })),
        ("Cors", "expose", json!({ "maxItems": limits::NAMES, "items": headers })),
        ("Cors", "max_age_s", range(limits::CORS_AGE_S)),
        ("RefusalTemplate", "", refusal_choices()),
        ("RefusalTemplate", "json", json!({ "type": "object" })),
        (
            "RefusalTemplate",
            "json_type",
            json!({ "pattern": "^application/(json|[a-z0-9.-]+\\+json)$", "maxLength": limits::NAME_BYTES }),
        ),
        ("RefusalTemplate", "html", json!({ "maxLength": limits::PAGE_BYTES })),
        ("TokenCookie", "name", json!({ "pattern": cookie })),
        ("Route", "", json!({ "not": { "required": ["strip_prefix", "replace_prefix"] } })),
        ("Route", "path", path),
        ("Route", "access", json!({ "$ref": "#/$defs/Access" })),
        ("Route", "methods", words(&METHODS)),
        ("Route", "issuers", some(limits::TABLES)),
        ("Route", "limits", json!({ "maxItems": limits::ROUTE_LIMITS })),
        ("Route", "max_body_bytes", range(limits::BODY_BYTES)),
        ("HeaderRules", "set", header_values()),
        ("HeaderRules", "remove", json!({ "maxItems": limits::HEADER_RULES, "items": headers })),
        ("ReplacePrefix", "to", short),
    ]
}

/// Removes number formats, which validators do not know, and `null`, which TOML does not have.
fn simplify(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("format");
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = map.get("anyOf")
                && let [choice, Value::Object(null)] = choices.as_slice()
                && null.get("type").is_some_and(|name| name == "null")
            {
                let choice = choice.clone();
                map.remove("anyOf");
                map.extend(choice.as_object().cloned().unwrap_or_default());
            }
            map.values_mut().for_each(simplify);
        }
        Value::Array(list) => list.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn claim_path() -> Value {
    let name = json!({ "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES });
    json!({ "oneOf": [name, { "type": "array", "minItems": 1, "maxItems": limits::CLAIM_DEPTH, "items": name }] })
}

/// Texts, and values of claims, which only requests have.
fn header_values() -> Value {
    let text = json!({ "type": "string", "maxLength": limits::HEADER_VALUE_BYTES });
    let claim = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "claim": claim_path() },
        "required": ["claim"]
    });
    json!({ "maxProperties": limits::HEADER_RULES, "additionalProperties": { "oneOf": [text, claim] } })
}

fn claim_rule() -> Value {
    let value = json!({ "type": ["string", "integer", "boolean"] });
    let properties = json!({
        "claim": claim_path(),
        "equals": value,
        "one_of": { "type": "array", "minItems": 1, "maxItems": limits::NAMES, "items": value }
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": ["claim"],
        "not": { "required": ["equals", "one_of"] }
    })
}

fn key_set() -> Value {
    let keys =
        json!({ "type": "array", "minItems": 1, "maxItems": KEYS, "items": { "type": "object", "required": ["kty"] } });
    json!({ "type": ["object", "string"], "properties": { "keys": keys }, "required": ["keys"] })
}

/// A template has JSON or a page, and one page at most.
fn refusal_choices() -> Value {
    let bodies = ["json", "html", "html_file"].map(|body| json!({ "required": [body] }));
    json!({ "anyOf": bodies, "not": { "required": ["html", "html_file"] } })
}

/// An issuer says once where its keys are, and which algorithms it uses, or names a provider; or its tokens are opaque.
fn issuer_choices() -> Value {
    let discovery = json!({ "required": ["discovery"], "properties": { "discovery": { "const": true } } });
    let url = json!({ "required": ["jwks_url"] });
    let (set, file) = (json!({ "required": ["jwks"] }), json!({ "required": ["jwks_file"] }));
    let places = json!([discovery, url, { "required": ["jwks_upstream"] }, set, file]);
    json!({
        "oneOf": [
            discovery,
            url,
            { "required": ["jwks_upstream", "jwks_path"] },
            set,
            file,
            { "required": ["provider"], "not": { "anyOf": places } },
            { "required": ["introspection"] },
            { "required": ["api_keys"] }
        ],
        "anyOf": [
            { "required": ["algorithms", "audience"] },
            { "required": ["provider", "audience"] },
            { "required": ["introspection", "audience"] },
            { "required": ["api_keys"] }
        ]
    })
}

/// Returns the access rules: of a route, and those that may stand inside `any` and `all`.
fn access_rules() -> [(&'static str, Value); 2] {
    let list = |most: usize, items: Value| json!({ "type": "array", "minItems": 1, "maxItems": most, "items": items });
    let names = list(limits::NAMES, json!({ "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES }));
    let rules = list(limits::ACCESS_RULES, json!({ "$ref": "#/$defs/Rule" }));
    let table = |key: &str, value: &Value| json!({ "type": "object", "additionalProperties": false, "properties": { key: value }, "required": [key] });
    let text = json!({ "type": "string", "minLength": 1, "maxLength": limits::TEXT_BYTES });
    let country = json!({ "type": "string", "pattern": "^(?!XX$|UK$|EU$)[A-Z]{2}$" });
    let class = json!({ "type": "string", "pattern": "^[!#-\\[\\]-~]+$", "maxLength": limits::TEXT_BYTES });
    let host = "^\\{[A-Za-z0-9_]+\\}(\\.[a-z0-9-]+)+$";
    let request_claim = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "claim": claim_path(),
            "equals_path": text,
            "equals_host": { "type": "string", "pattern": host, "maxLength": limits::TEXT_BYTES }
        },
        "required": ["claim"],
        "anyOf": [{ "required": ["equals_path"] }, { "required": ["equals_host"] }]
    });
    let age = json!({ "type": "integer", "minimum": limits::MAX_AGE_S.start(), "maximum": limits::MAX_AGE_S.end() });
    let rule = json!({
        "oneOf": [
            { "const": "user" },
            table("roles", &names),
            table("scopes", &names),
            table("owner", &json!({ "type": "string", "minLength": 1 })),
            claim_rule(),
            request_claim,
            table("country", &list(limits::NAMES, country)),
            table("network", &list(limits::NAMES, json!({ "type": "string", "minLength": 1 }))),
            table("max_age", &age),
            table("acr", &list(limits::NAMES, class)),
            table("any", &rules),
            table("all", &rules)
        ]
    });
    [("Access", json!({ "oneOf": [{ "const": "public" }, { "$ref": "#/$defs/Rule" }] })), ("Rule", rule)]
}

/// Returns the schema as it is committed.
pub(crate) fn schema_text() -> String {
    format!("{:#}\n", schema())
}
