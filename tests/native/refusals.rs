//! Refusals by templates of the policy: what they show, which templates are refused, and that nothing else changes.

use portcullis_policy::{PageTemplate, Placeholder, Policy, check, check_with};
use serde_json::{Value, json};

use crate::fakes::{Seen, answer, gateway_of, header, setup, verdict};

const ROUTES: &str = r#"
[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me/{id}"
methods = ["GET"]
upstream = "app"
access = "user"
refusals = "brand"

[[routes]]
path = "/plain"
methods = ["GET"]
upstream = "app"
access = "user"

[[routes]]
path = "/a&b/{id}"
methods = ["GET"]
upstream = "app"
access = "user"
refusals = "brand"

[[routes]]
path = "/page"
methods = ["GET"]
upstream = "app"
access = "user"
refusals = "page"

[upstreams.down]
url = "https://down.example"
maintenance = { retry_after_s = 300 }

[[routes]]
path = "/down"
methods = ["GET"]
upstream = "down"
access = "public"
refusals = "brand"

[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"
revocations_from = "accounts"
"#;

const BRAND: &str = r#"
[refusals.brand]
json_type = "application/vnd.shop+json"

[refusals.brand.json]
success = false
status = "{status}"
retry = "{retry_after_s}"
hint = "again in {retry_after_s} s"
links = ["https://status.example", "{retry_after_s}"]

[refusals.brand.json.error]
code = "{code}"
text = "{title}: {detail} ({type}, {operation})"
id = "{request_id}"
"#;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Shop: {title}</title>
<style>
body > main { color: #123 }
</style></head>
<body class="{code}"><main>
<h1 data-id="{request_id}">{status} {title}</h1>
<p>{detail}, at {operation}.</p>
<p><a href="https://status.example/?a=b&amp;c=d">Status</a> <img src="data:image/png;base64,AAAA" alt="{title}"/></p>
</main></body>
</html>
"#;

/// The templates, the page of `brand` before its tables.
fn policy(default: &str) -> String {
    let brand = BRAND.replace("[refusals.brand]\n", &format!("[refusals.brand]\nhtml = '''{PAGE}'''\n"));
    format!("{default}\n{ROUTES}\n{brand}\n[refusals.page]\nhtml = '''{PAGE}'''\n")
}

fn get(default: &str, path: &str, headers: &[(&str, &str)]) -> Seen {
    let (gateway, ports) = setup(&policy(default));
    ports.send(&gateway, "GET", path, headers)
}

const HTML: (&str, &str) = ("accept", "text/html,*/*");

#[test]
fn json_of_a_template_shows_the_values_in_their_types() {
    let seen = get("", "/me/7", &[]);
    assert_eq!(verdict(&seen), (401, "credentials_missing"));
    let refused = answer(&seen);
    assert_eq!(header(refused, "content-type"), Some("application/vnd.shop+json"));
    assert_eq!(header(refused, "www-authenticate"), Some("Bearer realm=\"portcullis\""));
    assert_eq!(header(refused, "cache-control"), Some("no-store"));
    let id = header(refused, "x-request-id").unwrap();
    let expected = json!({
        "success": false,
        "status": 401,
        "hint": "again in  s",
        "links": ["https://status.example"],
        "error": {
            "code": "credentials_missing",
            "text": "Unauthorized: Authorization header required (authentication_error, /me/{id})",
            "id": id,
        },
    });
    assert_eq!(serde_json::from_str::<Value>(&refused.body).unwrap(), expected);
    let seen = get("", "/down", &[]);
    let refused = answer(&seen);
    assert_eq!((refused.status, header(refused, "retry-after")), (503, Some("300")));
    let document: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((&document["retry"], &document["hint"]), (&json!(300), &json!("again in 300 s")));
    assert_eq!(document["links"], json!(["https://status.example", 300]));
}

#[test]
fn a_page_of_a_template_shows_escaped_values_and_allows_its_own_style_alone() {
    let seen = get("", "/a&b/%3Cscript%3Ealert(1)%3C%2Fscript%3E", &[HTML]);
    let seen = if verdict(&seen).0 == 401 { seen } else { get("", "/a&b/%3Cscript%3E", &[HTML]) };
    let refused = answer(&seen);
    assert_eq!(refused.status, 401);
    assert_eq!(header(refused, "content-type"), Some("text/html; charset=utf-8"));
    let id = header(refused, "x-request-id").unwrap();
    for part in [
        "<title>Shop: Unauthorized</title>",
        "<body class=\"credentials_missing\">",
        &format!("<h1 data-id=\"{id}\">401 Unauthorized</h1>"),
        "<p>Authorization header required, at /a&amp;b/{id}.</p>",
        "<a href=\"https://status.example/?a=b&amp;c=d\">",
        "<img src=\"data:image/png;base64,AAAA\" alt=\"Unauthorized\">",
        "<style>\nbody > main { color: #123 }\n</style>",
    ] {
        assert!(refused.body.contains(part), "{part}: {}", refused.body);
    }
    assert!(!refused.body.contains("script"), "nothing of the path");
    // The digest of the style, as `openssl dgst -sha256 -binary | base64` has it.
    let content_policy = header(refused, "content-security-policy").unwrap();
    assert_eq!(
        content_policy,
        "default-src 'none'; style-src 'sha256-yDuX++XY1cqjSmp59RnPTgwsmbd7WUdXxK0/sVRtFUg='; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
}

#[test]
fn a_route_uses_its_template_and_others_the_default() {
    let kind = |seen: &Seen| {
        let refused = answer(seen);
        let text = refused.body.as_str();
        let is_own = text.contains("Shop:") || text.contains("success");
        (refused.status, is_own, header(refused, "content-type").unwrap().to_owned())
    };
    let (json, page, problem) = ("application/vnd.shop+json", "text/html; charset=utf-8", "application/problem+json");
    for (default, path, headers, expected) in [
        ("", "/me/7", &[][..], (401, true, json)),
        ("", "/me/7", &[HTML], (401, true, page)),
        ("", "/plain", &[], (401, false, problem)),
        ("", "/plain", &[HTML], (401, false, page)),
        ("", "/nowhere", &[], (404, false, problem)),
        ("default_refusals = \"brand\"", "/plain", &[], (401, true, json)),
        ("default_refusals = \"brand\"", "/nowhere", &[], (404, true, json)),
        ("default_refusals = \"brand\"", "/nowhere", &[HTML], (404, true, page)),
        ("default_refusals = \"brand\"", "//", &[HTML], (400, true, page)),
        // A template without JSON, or without a page.
        ("", "/page", &[], (401, false, problem)),
        ("default_refusals = \"brand\"", "/page", &[], (401, false, problem)),
        ("", "/page", &[HTML], (401, true, page)),
        // Programs send requests to the gateway's own endpoints.
        ("default_refusals = \"brand\"", "/metrics", &[], (404, false, problem)),
        ("default_refusals = \"brand\"", "/_gateway/revocations", &[], (405, false, problem)),
    ] {
        let (status, is_own, content_type) = expected;
        let seen = get(default, path, headers);
        assert_eq!(kind(&seen), (status, is_own, content_type.to_owned()), "{default} {path} {headers:?}");
    }
    // A method that the route does not have.
    let (gateway, ports) = setup(&policy(""));
    let seen = ports.send(&gateway, "DELETE", "/me/7", &[]);
    assert_eq!((kind(&seen).1, header(answer(&seen), "allow")), (true, Some("GET, HEAD")));
}

#[test]
fn each_unsafe_page_is_refused() {
    let page = |body: &str| format!("<!doctype html><p>{{code}} {{request_id}}</p>{body}");
    let fault = |html: &str| PageTemplate::parse(html).err().unwrap_or_default();
    assert_eq!(fault(&page("")), "");
    for (body, expected) in [
        ("<script>alert({code})</script>", "may not have <script>"),
        ("<SCRIPT>", "may not have <SCRIPT>"),
        ("<scr<b>ipt>", "may not have <scr>"),
        ("<svg/onload=alert(1)>", "may not have <svg>"),
        ("<iframe src=\"https://evil.example\"></iframe>", "may not have <iframe>"),
        ("<form action=\"/x\">", "may not have <form>"),
        ("<base href=\"https://evil.example/\">", "may not have <base>"),
        ("<link rel=\"stylesheet\" href=\"https://evil.example/x.css\">", "may not have <link>"),
        ("<meta http-equiv=\"refresh\" content=\"0;url=https://evil.example\">", "attribute http-equiv"),
        ("<p onclick=\"x()\">", "attribute onclick"),
        ("<p ONCLICK=\"x()\">", "attribute ONCLICK"),
        ("<p style=\"color:red\">", "put styles into <style>"),
        ("<p style=\"{detail}\">", "put styles into <style>"),
        ("<a href=\"javascript:alert(1)\">", "href must be"),
        ("<a href=\"&#106;avascript:alert(1)\">", "href must be"),
        ("<a href=\" javascript:alert(1)\">", "href must be"),
        ("<a href=\"data:text/html,x\">", "href must be"),
        ("<a href=\"https://x.example/{request_id}\">", "href must be"),
        ("<img src=\"https://evil.example/pixel.png\">", "src must be"),
        ("<img src=\"data:text/html,x\">", "src must be"),
        ("<img src=\"data:image/png;base64,{code}\">", "src must be"),
        ("<p class={code}>", "name=\"value\""),
        ("<p class='{code}'>", "name=\"value\""),
        ("<p {code}=\"x\">", "attribute {code}"),
        ("<p class=\"a\"id=\"b\">", "name=\"value\""),
        ("<p class=\"a>b\">", "name=\"value\""),
        ("<{code}>", "may not have <>"),
        ("</{code}>", "may not have <>"),
        ("<p/class=\"x\">", "name=\"value\""),
        ("</p class=\"x\">", "no attributes"),
        ("<!-- {code} -->", "may not have <>"),
        ("<!--><script>x</script>-->", "may not have <>"),
        ("<![CDATA[x]]>", "may not have <>"),
        ("<?php echo 1 ?>", "may not have <>"),
        ("<style>{code}</style>", "<style> has a placeholder"),
        ("<style>a{}</style><style>", "does not end"),
        ("<style>p{}<b></style>", "<style> has a placeholder or a <"),
        ("<style media=\"print\">p{}</style>", "<style> have no attributes"),
        ("<textarea>", "may not have <textarea>"),
        ("<plaintext>", "may not have <plaintext>"),
        ("<template>", "may not have <template>"),
        ("1 < 2", "begins no tag"),
        ("1 < 2, 3 > 2", "may not have <>"),
        ("a <p", "begins no tag"),
        ("{unknown}", "{unknown} is no placeholder"),
        ("{Code}", "{Code} is no placeholder"),
        ("{{code}}", "is no placeholder"),
        ("{co{code}de}", "is no placeholder"),
        ("{", "is no placeholder"),
        ("{code", "is no placeholder"),
        ("{ code }", "is no placeholder"),
        ("\u{0}", "control character"),
        ("\u{1b}[31m", "control character"),
        (&"x".repeat(33 * 1024), "write at most 32768"),
        (&"{detail}".repeat(60), "write at most 50"),
    ] {
        let actual = fault(&page(body));
        assert!(actual.contains(expected), "{body:.80}: {actual}");
    }
    for (html, expected) in [
        ("<p>{code} {request_id}</p>", "begin with <!doctype html>"),
        ("", "begin with <!doctype html>"),
        ("<!doctype html><p>{code}</p>", "does not show {request_id}"),
        ("<!doctype html><p>{request_id}</p>", "does not show {code}"),
    ] {
        assert!(fault(html).contains(expected), "{html}: {}", fault(html));
    }
    for body in [
        "<P>".to_lowercase().as_str(),
        "a } b &#123;code} &lt;script&gt;",
        "<p class=\"a\" id=\"b\"\n title=\"{detail}\">",
        "<br/><hr /><img src=\"data:image/svg+xml,%3Csvg/%3E\" alt=\"\">",
        "<a href=\"\">again</a><a href=\"/help\" rel=\"help\">help</a><a href=\"mailto:a@b.example\">mail</a>",
        "<p aria-label=\"{title}\" data-code=\"{code}\" lang=\"de\">ä\u{2028}</p>",
        "<style>p{color:red}a > b{}\n@media(x){p{}}</style>",
    ] {
        assert_eq!(fault(&page(body)), "", "{body}");
    }
}

#[test]
fn a_style_is_allowed_as_the_browser_reads_it() {
    let html = "<!DOCTYPE HTML><style>a{}\r\nb{}</style><style></style>{code}{request_id}";
    let page = PageTemplate::parse(html).unwrap();
    assert_eq!(page.styles, ["a{}\nb{}", ""]);
    assert!(!page.has_images);
}

#[test]
fn each_mistake_in_a_template_has_its_place() {
    let json = |json: &str| format!("[refusals.brand]\njson = {json}");
    let whole =
        |json_type: &str| format!("[refusals.brand]\njson = {{ c = \"{{code}} {{request_id}}\" }}\n{json_type}");
    let deep = format!("{}\"{{code}}{{request_id}}\"{}", "{ a = ".repeat(20), " }".repeat(20));
    let base = ROUTES.replace("refusals = \"page\"\n", "");
    for (name, refusals, expected) in [
        ("no code", json("{ id = \"{request_id}\" }"), "does not show {code}"),
        ("no request id", json("{ code = \"{code}\" }"), "does not show {request_id}"),
        ("the code as a text of its own", json("{ code = \"code\", id = \"{request_id}\" }"), "does not show {code}"),
        ("an unknown placeholder", json("{ c = \"{code} {request_id} {path}\" }"), "{path} is no placeholder"),
        ("nested placeholders", json("{ c = \"{code} {request_id} {{detail}}\" }"), "is no placeholder"),
        ("a placeholder in a name", json("{ \"{code}\" = 1, c = \"{code} {request_id}\" }"), "the name of a member"),
        ("a list", json("[\"{code}\", \"{request_id}\"]"), "it must be a table"),
        ("a text", json("\"{code} {request_id}\""), "it must be a table"),
        ("a member twice", json("{ a = \"{code}\", a = \"{request_id}\" }"), "duplicate key"),
        ("too deep", json(&deep), "nests too deeply"),
        (
            "too long",
            json(&format!("{{ c = \"{{code}} {{request_id}} {}\" }}", "x".repeat(9000))),
            "write at most 8192",
        ),
        (
            "too many placeholders",
            json(&format!("{{ c = \"{}{{request_id}}\" }}", "{code}".repeat(50))),
            "write at most 50",
        ),
        ("another media type", whole("json_type = \"text/html\""), "json_type must be"),
        ("a media type in two lines", whole("json_type = \"application/json\\r\\nx: y\""), "json_type must be"),
        ("a media type with parameters", whole("json_type = \"application/json; charset=utf-8\""), "json_type must be"),
        ("two pages", whole("html = \"x\"\nhtml_file = \"y\""), "keep one of them"),
        ("a missing file", whole("html_file = \"missing.html\""), "cannot be read"),
        ("a file above the folder", whole("html_file = \"../secret.html\""), "cannot be read"),
        ("nothing", "[refusals.brand]".to_owned(), "write json, html or html_file"),
        ("another name", whole("").replace("brand", "brands"), "no refusal is named \"brand\" (defined: brands)"),
    ] {
        let mistakes = check(&format!("{base}\n{refusals}\n")).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.to_string().contains(expected)), "{name}: {mistakes:?}");
    }
    let many: String = (0..17).map(|n| whole("").replace("brand", &format!("brand{n}")) + "\n").collect();
    let mistakes = check(&format!("{base}\n{}\n{many}", whole(""))).unwrap_err();
    assert!(mistakes.iter().any(|mistake| mistake.to_string().contains("write at most 16")), "{mistakes:?}");
    let unknown = check(&format!("default_refusals = \"x\"\n{base}\n{}\n", whole(""))).unwrap_err();
    assert!(unknown[0].to_string().starts_with("1:20: no refusal is named"), "{unknown:?}");
}

#[test]
fn a_page_of_a_file_becomes_a_part_of_the_policy() {
    let text = format!(
        "{}\n[refusals.brand]\nhtml_file = \"pages/refusal.html\"\n",
        ROUTES.replace("refusals = \"page\"\n", "")
    );
    let files = [("pages/refusal.html".to_owned(), PAGE.to_owned())].into();
    let policy = check_with(&text, &files).unwrap();
    assert_eq!((policy.refusals[0].html.as_deref(), policy.refusals[0].html_file.as_deref()), (Some(PAGE), None));
    let unsafe_files = [("pages/refusal.html".to_owned(), "<!doctype html><script>".to_owned())].into();
    let mistakes = check_with(&text, &unsafe_files).unwrap_err();
    assert!(mistakes[0].to_string().contains("html_file: it may not have <script>"), "{mistakes:?}");
    // A pushed document: its pages and its members are checked, too.
    let document = serde_json::to_string(&policy).unwrap();
    assert!(Policy::read(&document).is_ok());
    let pushed = document.replace("<main>", "<main><script>");
    assert!(Policy::read(&pushed).unwrap_err().contains("may not have <script>"));
    let twice = document.replace("\"json_type\"", "\"json\":{\"a\":\"{code}\",\"a\":\"{request_id}\"},\"json_type\"");
    assert!(Policy::read(&twice).unwrap_err().contains("repeated member"));
}

#[test]
fn each_placeholder_has_a_value() {
    let all = Placeholder::NAMES.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join("|");
    let text = format!(
        "default_refusals = \"all\"\n{}\n[refusals.all]\njson = {{ all = \"{all}\" }}\n",
        ROUTES.replace("refusals = \"page\"\n", "").replace("refusals = \"brand\"\n", "")
    );
    let ports = crate::fakes::FakePorts::new();
    let seen = ports.send(&gateway_of(&text), "GET", "/down", &[]);
    let id = header(answer(&seen), "x-request-id").unwrap();
    let expected = json!({ "all": format!(
        "503|Service Unavailable|The service behind the gateway is under maintenance|maintenance|unavailable|{id}|300|/down"
    ) });
    assert_eq!(serde_json::from_str::<Value>(&answer(&seen).body).unwrap(), expected);
}
