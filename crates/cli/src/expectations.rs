//! `gateway.tests.toml`: requests, and what the policy is expected to decide about each.

use portcullis_policy::{Policy, claims_in_rules, position_of};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use crate::decision::{Caller, Decision};

/// A file's name, for messages, and its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    test: Vec<Spanned<Row>>,
}

/// One request. Without a field about the caller, it has no token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Method and path: `GET /api/v1/users/7`.
    request: Spanned<String>,
    /// 200 if the request is forwarded or answered by the gateway itself, or the status of the
    /// refusal.
    expect: u16,
    user: Option<String>,
    roles: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    /// Claims as the token's payload has them.
    claims: Option<Map<String, Value>>,
    issuer: Option<String>,
}

/// Runs the tests of a file. Returns the number of tests, or a line for each that fails.
pub(crate) fn run(policy: &Policy, file: &TextFile) -> Result<usize, Vec<String>> {
    let tests: File = toml::from_str(&file.text).map_err(|error| {
        vec![format!("{}: {}", place(file, error.span().map_or(0, |span| span.start)), error.message())]
    })?;
    let failures: Vec<String> = tests.test.iter().filter_map(|test| check(policy, test.get_ref(), file)).collect();
    if failures.is_empty() { Ok(tests.test.len()) } else { Err(failures) }
}

/// Returns what is wrong, if the policy decides otherwise.
fn check(policy: &Policy, row: &Row, file: &TextFile) -> Option<String> {
    let request = row.request.get_ref();
    let at = place(file, row.request.span().start);
    let Some((method, path)) = request.split_once(' ') else {
        return Some(format!("{at}: {request:?} is not a method and a path, such as \"GET /api/v1/users/7\""));
    };
    if let Some(unknown) = row.issuer.as_ref().filter(|name| policy.issuers.iter().all(|issuer| issuer.name != **name))
    {
        return Some(format!("{at}: there is no issuer {unknown:?}"));
    }
    let decision = Decision::of(policy, method, path, Ok(row.caller(policy).as_ref()));
    let (status, code) = decision.refusal.unwrap_or((200, "permitted"));
    let expected = row.expect;
    let rule = decision.context.first().map_or(decision.verdict.trim_start_matches(": "), String::as_str);
    (status != expected)
        .then(|| format!("{at}: {request}: expected {expected}, but the policy decides {status} ({code}): {rule}"))
}

impl Row {
    fn caller(&self, policy: &Policy) -> Option<Caller> {
        let Self { user, roles, scopes, claims, issuer, .. } = self;
        let has_token = user.is_some() || roles.is_some() || scopes.is_some() || claims.is_some() || issuer.is_some();
        let value_at = |path: &[String]| {
            let (first, rest) = path.split_first()?;
            rest.iter().try_fold(claims.as_ref()?.get(first)?, |value, name| value.get(name)).cloned()
        };
        has_token.then(|| Caller {
            user: user.clone(),
            roles: roles.clone().unwrap_or_default(),
            scopes: scopes.clone().unwrap_or_default(),
            claims: claims_in_rules(policy)
                .into_iter()
                .filter_map(|path| value_at(&path).map(|value| (path, value)))
                .collect(),
            issuer: issuer.clone(),
        })
    }
}

/// `file:line:column` of a byte offset.
fn place(file: &TextFile, offset: usize) -> String {
    let (line, column) = position_of(&file.text, offset);
    format!("{}:{line}:{column}", file.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["RS256"]
discovery = true

[upstreams.shop]
url = "http://127.0.0.1:1"

[[routes]]
path = "/open"
methods = ["GET"]
upstream = "shop"
access = "public"

[[routes]]
path = "/any"
methods = ["GET"]
upstream = "shop"
access = "user"

[[routes]]
path = "/orders/{id}"
methods = ["GET"]
upstream = "shop"
access = { any = [{ owner = "id" }, { claim = ["org", "tenant"], equals = "shop" }, { scopes = ["orders"] }] }
"#;

    #[test]
    fn a_row_passes_if_the_policy_decides_as_expected() {
        let policy = portcullis_policy::check(POLICY).unwrap();
        for (row, expected) in [
            (r#"request = "GET /open", expect = 200"#, Ok(1)),
            (r#"request = "GET /health", expect = 200"#, Ok(1)),
            (r#"request = "GET /any", expect = 401"#, Ok(1)),
            (r#"request = "GET /any", expect = 200, roles = []"#, Ok(1)),
            (r#"request = "GET /nothing", expect = 404"#, Ok(1)),
            (r#"request = "POST /open", expect = 405"#, Ok(1)),
            (r#"request = "GET /a/../b", expect = 400"#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 200, user = "7""#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 403, user = "8", roles = ["admin"]"#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 200, scopes = ["orders"]"#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 200, claims = { org = { tenant = "shop" } }"#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 403, claims = { org = { tenant = "bank" } }"#, Ok(1)),
            (r#"request = "GET /orders/7", expect = 403, issuer = "id""#, Ok(1)),
            (
                r#"request = "GET /orders/7", expect = 403, user = "7""#,
                Err("t:1:21: GET /orders/7: expected 403, but the policy decides 200 (permitted): GET /orders/7 is \
                     /orders/{id} at shop; may enter: the user {id}, or claim org/tenant = \"shop\", or scope orders"),
            ),
            (
                r#"request = "GET /nothing", expect = 200"#,
                Err(
                    "t:1:21: GET /nothing: expected 200, but the policy decides 404 (route_unknown): no route names /nothing",
                ),
            ),
            (r#"request = "/open", expect = 200"#, Err("t:1:21: \"/open\" is not a method and a path")),
            (r#"request = "GET /any", expect = 200, issuer = "di""#, Err("t:1:21: there is no issuer \"di\"")),
            (r#"request = "GET /any", expect = 200, role = "x""#, Err("t:1:47: unknown field `role`")),
            (r#"request = "GET /any""#, Err("t:1:9: missing field `expect`")),
        ] {
            let file = TextFile { name: "t".to_owned(), text: format!("test = [{{ {row} }}]") };
            match (run(&policy, &file), expected) {
                (Err(lines), Err(begins)) => {
                    assert!(lines.len() == 1 && lines[0].starts_with(begins), "{row}: {lines:?}");
                }
                (found, expected) => assert_eq!(found.ok(), expected.ok(), "{row}"),
            }
        }
    }
}
