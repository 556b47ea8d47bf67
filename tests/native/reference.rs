//! `docs/policy.md`: the reference page of all options of a policy, generated from the schema.

use serde_json::Value;

use crate::json_schema::schema;

/// A section of the page: the type, its heading, and an example. The examples together are a
/// policy.
type Section = (&'static str, &'static str, &'static str);

const SECTIONS: &[Section] = &[
    ("Policy", "The document", "version = 1\npublic_url = \"https://api.example.com\""),
    (
        "Issuer",
        "`[issuers.NAME]`",
        "[issuers.partner]\nissuer = \"https://id.example.com/\"\naudience = [\"api\"]\nalgorithms = [\"RS256\"]\n\
         discovery = true\nrevocable = true",
    ),
    (
        "Claims",
        "`[issuers.NAME.claims]`",
        "[issuers.partner.claims]\nemail = \"mail\"\nroles = [\"realm_access\", \"roles\"]",
    ),
    ("Logout", "`[issuers.NAME.logout]`", "[issuers.partner.logout]\naudience = [\"web-app\"]"),
    (
        "Events",
        "`[issuers.NAME.events]`",
        "[issuers.partner.events]\nissuer = \"https://signals.example.com/\"\naudience = [\"https://api.example.com\"]\n\
         authorization = true",
    ),
    (
        "Introspection",
        "`[issuers.NAME.introspection]`",
        "[issuers.sessions]\nissuer = \"https://sso.example.com\"\naudience = [\"api\"]\n\n\
         [issuers.sessions.introspection]\nurl = \"https://sso.example.com/introspect\"\nclient_id = \"gateway\"",
    ),
    (
        "Upstream",
        "`[upstreams.NAME]`",
        "[upstreams.shop]\nurl = \"https://shop.example.com\"\ntimeout_ms = 5000\nretries = 1",
    ),
    ("Assertion", "`[upstreams.NAME.assertion]`", "[upstreams.shop.assertion]\nalgorithm = \"ES256\""),
    ("Breaker", "`[upstreams.NAME.breaker]`", "[upstreams.shop.breaker]\nfailures = 5\nopen_s = 60"),
    ("Maintenance", "`[upstreams.NAME.maintenance]`", "[upstreams.shop.maintenance]\nretry_after_s = 300"),
    (
        "UpstreamTarget",
        "`[[upstreams.NAME.targets]]`",
        "[[upstreams.blog.targets]]\nurl = \"https://a.example.com\"\nweight = 3\n\n[[upstreams.blog.targets]]\n\
         url = \"https://b.example.com\"",
    ),
    ("Revocation", "`[revocation]`", "[revocation]\nmax_age_s = 60"),
    ("Limit", "`[limits.NAME]`", "[limits.login]\nby = \"ip\"\nretry_after_s = 60"),
    (
        "Authorizer",
        "`[authorizers.NAME]`",
        "[authorizers.pdp]\nurl = \"https://pdp.example.com/access/v1/evaluation\"\ntimeout_ms = 500\ncache_s = 10",
    ),
    ("Cors", "`[cors.NAME]`", "[cors.app]\norigins = [\"https://app.example.com\"]\ncredentials = true"),
    ("TokenCookie", "`[token_cookie]`", "[token_cookie]\nname = \"__Host-token\""),
    (
        "Route",
        "`[[routes]]`",
        "[[routes]]\npath = \"/shop/orders/{id}\"\nmethods = [\"GET\", \"PUT\"]\nupstream = \"shop\"\n\
         access = { any = [{ owner = \"id\" }, { roles = [\"admin\"] }] }\nissuers = [\"partner\"]\nlimits = [\"login\"]\ncors = \"app\"\n\
         revocation = \"strict\"\ntoken_cookie = true",
    ),
    ("ReplacePrefix", "`[routes.replace_prefix]`", "[routes.replace_prefix]\nfrom = \"/shop\"\nto = \"/v2\""),
    (
        "HeaderRules",
        "`[routes.request_headers]`, `[routes.response_headers]`",
        "[routes.request_headers]\nset = { x-tenant = \"shop\" }\nremove = [\"x-debug\"]",
    ),
    (
        "RefusalTemplate",
        "`[refusals.NAME]`",
        "[refusals.brand]\njson = { code = \"{code}\", message = \"{detail}\", id = \"{request_id}\" }\n\
         html = \"<!doctype html><h1>{title}</h1><p>{code}, {request_id}</p>\"",
    ),
    (
        "Resource",
        "`[[resources]]`",
        "[[resources]]\npath = \"/shop\"\nscopes_supported = [\"orders:read\"]\nresource_name = \"Orders\"",
    ),
];

/// Returns the examples of the page as one policy file.
pub(crate) fn examples() -> String {
    SECTIONS.iter().map(|(_, _, example)| format!("{example}\n\n")).collect()
}

/// Returns `docs/policy.md`.
pub(crate) fn reference() -> String {
    let schema = schema();
    let mut page = "# Policy reference\n\n\
        Generated from the types of `crates/policy` by `npm run docs`; do not edit.\n\n\
        `gateway.toml` is the policy of the gateway. `npm run check` checks it, and `gateway.schema.json` makes editors\n\
        complete and check it. A pushed policy is the same document as JSON.\n"
        .to_owned();
    for (name, heading, example) in SECTIONS {
        let table = if *name == "Policy" { &schema } else { &schema["$defs"][name] };
        page.push_str(&format!("\n## {heading}\n\n{}\n\n", text_of(&table["description"])));
        for (option, property) in table["properties"].as_object().into_iter().flatten() {
            let is_required = table["required"].as_array().is_some_and(|names| names.iter().any(|name| name == option));
            page.push_str(&line(&schema, option, property, is_required));
        }
        page.push_str(&format!("\n```toml\n{example}\n```\n"));
    }
    page
}

fn line(schema: &Value, option: &str, property: &Value, is_required: bool) -> String {
    let definition = property["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    let mut facts = vec![kind(property, definition)];
    if let (Some(min), Some(max)) = (property["minimum"].as_u64(), property["maximum"].as_u64()) {
        facts.push(if min == max { format!("only {min}") } else { format!("{min} to {max}") });
    }
    match &property["default"] {
        _ if is_required => facts.push("required".to_owned()),
        Value::Null | Value::Object(_) => {}
        Value::Array(list) if list.is_empty() => {}
        default @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            facts.push(format!("default `{default}`"));
        }
    }
    let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let mut text = format!("- **`{option}`** ({}): {}\n", facts.join(", "), text_of(&property["description"]));
    for choice in definition.and_then(|definition| definition["oneOf"].as_array()).into_iter().flatten() {
        if let (Some(word), Some(about)) = (choice["const"].as_str(), choice["description"].as_str()) {
            text.push_str(&format!("  - `\"{word}\"`: {}\n", about.replace('\n', " ")));
        }
    }
    text
}

fn kind(property: &Value, definition: Option<&Value>) -> String {
    let choices = |list: &Value| -> String {
        let words = list.as_array().into_iter().flatten().map(|word| format!("`{word}`"));
        words.collect::<Vec<_>>().join(", ")
    };
    if property.get("enum").is_some() {
        return format!("one of {}", choices(&property["enum"]));
    }
    if property["type"].is_array() {
        return "table or string".to_owned();
    }
    if property.get("oneOf").is_some() && definition.is_none() {
        return "string or list of strings".to_owned();
    }
    let kind = property["type"].as_str().or_else(|| definition?["type"].as_str());
    match kind {
        Some("array") if property["items"].get("enum").is_some() => {
            format!("list of {}", choices(&property["items"]["enum"]))
        }
        Some("array") => match property["items"]["type"].as_str() {
            Some("object") => "list of tables".to_owned(),
            Some(item) => format!("list of {item}s"),
            None => "list".to_owned(),
        },
        Some("object") => "table".to_owned(),
        Some(kind) => kind.to_owned(),
        None if definition.is_some_and(is_word) => "word".to_owned(),
        None => "word or table".to_owned(),
    }
}

/// Whether a definition is a choice of words.
fn is_word(definition: &Value) -> bool {
    definition["oneOf"].as_array().is_some_and(|choices| choices.iter().all(|choice| choice["const"].is_string()))
}

fn text_of(description: &Value) -> String {
    description.as_str().unwrap_or_default().replace('\n', " ")
}
