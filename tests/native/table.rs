//! The table of routes: which route takes a path, and which spellings of a path no route takes.

use std::collections::BTreeSet;

use portcullis_policy::{Miss, Policy, Table, Target};
use serde_json::json;

fn table(routes: &[(&str, &[&str])]) -> Table {
    let routes = routes.iter().map(|(path, methods)| {
        let mut route = json!({ "path": path, "methods": methods, "upstream": "up", "access": "user" });
        if path.starts_with("/files/") {
            route["encoded_path"] = "forward".into();
        }
        if matches!(*path, "/app/admin" | "/files/secret") {
            route["variants"] = "refuse".into();
        }
        route
    });
    let policy = json!({ "upstreams": { "up": {} }, "routes": routes.collect::<Vec<_>>() });
    let policy: Policy = serde_json::from_value(policy).unwrap();
    Table::build(&policy).unwrap()
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let table = table(&[
        ("/files/{*rest}", &["GET"]),
        ("/users/{id}", &["GET", "DELETE"]),
        ("/users/me", &["GET"]),
        ("/users/{id}/posts", &["POST"]),
        ("/users", &["GET"]),
        ("/own-head", &["GET", "POST"]),
        ("/own-head", &["HEAD"]),
        ("/app/admin", &["GET"]),
        ("/app/Other", &["GET"]),
        ("/app/{*rest}", &["GET"]),
    ]);
    let rest = |value: &str| vec![("rest".to_owned(), value.to_owned())];
    let id = |value: &str| vec![("id".to_owned(), value.to_owned())];
    for (method, path, expected) in [
        ("GET", "/users", Ok((4, vec![]))),
        ("HEAD", "/users", Ok((4, vec![]))),
        ("GET", "/own-head", Ok((5, vec![]))),
        ("HEAD", "/own-head", Ok((6, vec![]))),
        ("GET", "/users/me", Ok((2, vec![]))),
        ("GET", "/users/mee", Ok((1, id("mee")))),
        ("DELETE", "/users/7", Ok((1, id("7")))),
        ("POST", "/users/7/posts", Ok((3, id("7")))),
        ("GET", "/files/a/b", Ok((0, rest("a/b")))),
        ("GET", "/users/auth0%7C64f", Ok((1, id("auth0|64f")))),
        ("GET", "/users/zo%c3%ab", Ok((1, id("zoë")))),
        ("GET", "/users/ada%2540example.com", Ok((1, id("ada%40example.com")))),
        ("GET", "/users/a%2Fb", Err(Miss::Ambiguous)),
        ("GET", "/users/a;b", Err(Miss::Ambiguous)),
        ("GET", "/nowhere/a%2Fb", Err(Miss::Ambiguous)),
        ("GET", "/files/a%2Fb%23c;d", Ok((0, rest("a/b#c;d")))),
        ("PUT", "/files/[slug].js", Err(Miss::Method { allow: "GET, HEAD".into(), route: 0 })),
        ("GET", "/app/admin", Ok((7, vec![]))),
        ("GET", "/app/admin/", Err(Miss::Ambiguous)),
        ("GET", "/app/Admin", Err(Miss::Ambiguous)),
        ("GET", "/app/ADMIN.", Err(Miss::Ambiguous)),
        ("GET", "/app/admin%20", Err(Miss::Ambiguous)),
        ("PUT", "/app/Admin", Err(Miss::Ambiguous)),
        ("GET", "/app/admin/x", Ok((9, rest("admin/x")))),
        ("GET", "/app/Other", Ok((8, vec![]))),
        ("GET", "/app/other", Ok((9, rest("other")))),
        ("GET", "/users/", Err(Miss::Path)),
        ("GET", "/users/7/", Err(Miss::Path)),
        ("GET", "/Users", Err(Miss::Path)),
        ("GET", "/", Err(Miss::Path)),
        ("get", "/users", Err(Miss::Method { allow: "GET, HEAD".into(), route: 4 })),
        ("PURGE", "/users/7", Err(Miss::Method { allow: "DELETE, GET, HEAD".into(), route: 1 })),
    ] {
        let found = table.find(method, &Target::parse(path).unwrap());
        assert_eq!(found.map(|found| (found.route, found.params)), expected, "{method} {path}");
    }
}

#[test]
fn what_encoded_path_lets_through_passes_no_route_that_refuses_variants() {
    let table = table(&[
        ("/files/{*rest}", &["GET"]),
        ("/files/secret", &["GET"]),
        ("/files/secret/{*rest}", &["GET"]),
        ("/app/admin", &["GET"]),
        ("/app/admin/{*rest}", &["GET"]),
        ("/app/{*rest}", &["GET"]),
    ]);
    let route = |path| table.find("GET", &Target::parse(path).unwrap()).map(|found| found.route);
    for (path, expected) in [
        ("/files/secret", 1),
        ("/files/secret/x", 2),
        ("/files/secret/a%2Fb", 2),
        ("/files/secrets%3Fx", 0),
        ("/files/a%252Fsecret", 0),
    ] {
        assert_eq!(route(path), Ok(expected), "{path}");
    }
    for ambiguous in [
        "/files/secret%3F /files/secret%3Fx /files/secret%23x /files/secret%3Fx/y /files/secret;a%3Fx \
         /files/secret;a%2Fb /files/secret%3Ba%2Fb /files/%2573ecret /files/%2553ecret /files/%252Fsecret \
         /files/secret%253Bx /files/secret%252E /files/secret%2520",
        // Of the strict route, and matched by the looser one below it.
        "/files/secret/%2F /files/secret/%20 /app/admin/%20",
        // Letters of which another case is an ASCII letter: dotless i, long s, Kelvin.
        "/app/adm%C4%B1n /files/%C5%BFecret",
    ] {
        for path in ambiguous.split(' ') {
            assert_eq!(route(path), Err(Miss::Ambiguous), "{path}");
        }
    }
}

/// Decodes percent-encoding once, as a service does.
fn decode(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        match piece.get(..2).map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => bytes.extend([&[byte], &piece.as_bytes()[2..]].concat()),
            _ => bytes.extend([b"%", piece.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What careless services may read: decoded again and again, with parameters, queries, empty
/// segments and blanks taken away or not, in lower case.
fn readings(path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut text = path.to_owned();
    for _ in 0..6 {
        for whole in [text.as_str(), text.split(['?', '#']).next().unwrap()] {
            for bare in [
                |segment: &str| segment.to_owned(),
                |segment: &str| segment.split(';').next().unwrap().to_owned(),
                |segment: &str| segment.split(';').next().unwrap().trim_end_matches(['.', ' ']).to_owned(),
                |segment: &str| segment.trim_end_matches(['.', ' ']).to_owned(),
            ] {
                let segments: Vec<String> = whole.split('/').map(bare).collect();
                let kept: Vec<&str> =
                    segments.iter().map(String::as_str).filter(|segment| !segment.is_empty()).collect();
                found.insert(format!("/{}", kept.join("/").to_uppercase().to_lowercase()));
                found.insert(segments.join("/").to_lowercase());
            }
        }
        text = decode(&text);
    }
    found
}

#[test]
fn no_spelling_that_is_forwarded_reads_as_a_path_that_refuses_variants() {
    let table =
        table(&[("/files/{*rest}", &["GET"]), ("/files/secret", &["GET"]), ("/files/secret/{*rest}", &["GET"])]);
    let parts = "\
        secret Secret s ecret %73 %53 %2573 %252573 / %2F %252f %25252F ; %3B %253b ? %3F %253F %23 %2523 . \
        %2E %252e %20 %2520 x %C5%BF %E2%84%AA";
    let parts: Vec<&str> = parts.split(' ').collect();
    let mut state = 7_u64;
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut path = "/files/".to_owned();
        for _ in 0..(state % 5 + 1) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            path.push_str(parts[usize::try_from(state >> 33).unwrap() % parts.len()]);
        }
        let Ok(target) = Target::parse(&path) else { continue };
        match table.find("GET", &target) {
            Ok(found) if found.route != 1 => {
                assert!(!readings(target.path()).contains("/files/secret"), "{path} is {}", target.path());
                passed += 1;
            }
            Ok(_) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(passed > 1_000 && refused > 100, "{passed} passed, {refused} were refused");
}
