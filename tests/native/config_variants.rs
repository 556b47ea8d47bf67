//! Rules that a variant of their path bypasses.

use portcullis_policy::check;

use crate::config::VALID;

const ADMIN: &str = "access = { roles = [\"admin\"] }";

/// Routes of a policy: path, methods, rest of the route.
fn with_routes(routes: &[(&str, &str, &str)]) -> String {
    let (before, _) = VALID.split_once("[[routes]]").unwrap();
    let before = before.replace("jwks_url", "revocable = true\njwks_url");
    let mut text = before.replace(
        "[upstreams.shop]",
        "[authorizers.pdp]\nurl = \"https://pdp.example.com\"\n\n[limits.login]\nby = \"ip\"\n\n[upstreams.other]\nurl = \"https://other.example.com\"\n\n[upstreams.twin]\nurl = \"https://shop.example.com\"\n\n[upstreams.bound]\nbinding = \"BOUND\"\n\n[upstreams.documented]\nurl = \"https://documented.example.com\"\nopenapi = \"shop.yaml\"\n\n[upstreams.shop]",
    );
    for (path, methods, rest) in routes {
        let upstream = if rest.contains("upstream") { "" } else { "upstream = \"shop\"" };
        text += &format!("\n[[routes]]\npath = \"{path}\"\nmethods = {methods}\n{upstream}\n{rest}\n");
    }
    text
}

#[test]
fn a_rule_that_a_variant_of_its_path_bypasses_is_reported() {
    const GET: &str = "[\"GET\"]";
    const USER: &str = "access = \"user\"";
    const ALLOWED: &str = "access = { roles = [\"admin\"] }\nvariants = { allow = \"its paths are case-sensitive\" }";
    let user = ("/app/{*rest}", GET, USER);
    for (name, routes, expected) in [
        (
            "case and slash",
            vec![user, ("/app/admin", GET, ADMIN)],
            Some("/app/Admin, /app/admin/ match the looser route \"/app/{*rest}\""),
        ),
        (
            "its own children",
            vec![user, ("/app/admin", GET, ADMIN), ("/app/admin/{*rest}", GET, ADMIN)],
            Some("/app/admin/ match"),
        ),
        (
            "a user's rule under a public one",
            vec![("/{*rest}", GET, "access = \"public\""), ("/me", GET, USER)],
            Some("/Me, /me/ match"),
        ),
        ("HEAD", vec![("/app/{*rest}", GET, USER), ("/app/admin", "[\"HEAD\"]", ADMIN)], Some("/app/Admin")),
        (
            "one parameter",
            vec![("/users/{id}", GET, USER), ("/users/all", GET, ADMIN)],
            Some("/users/All matches the looser route \"/users/{id}\""),
        ),
        (
            "a limit",
            vec![
                ("/{*rest}", GET, "access = \"public\""),
                ("/login", GET, "access = \"public\"\nlimits = [\"login\"]"),
            ],
            Some("/Login, /login/"),
        ),
        (
            "the path of the rest itself",
            vec![("/{*rest}", GET, USER), ("/admin/{*rest}", GET, ADMIN)],
            Some("/Admin/~0, /admin/ match"),
        ),
        (
            "a stripped prefix",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/app\""),
                ("/app/admin", GET, "access = { roles = [\"admin\"] }\nstrip_prefix = \"/app\""),
            ],
            Some("/app/Admin"),
        ),
        (
            "an escaped slash",
            vec![("/files/{name}", GET, "access = \"user\"\nencoded_path = \"forward\""), ("/files/a/b", GET, ADMIN)],
            Some("/files/a%2Fb matches the looser"),
        ),
        (
            "a URL's parameter",
            vec![
                ("/files/{name}", "[\"GET\", \"PUT\"]", "access = \"user\"\nencoded_path = \"forward\""),
                ("/files/all", "[\"PUT\"]", ADMIN),
            ],
            Some("/files/all;x"),
        ),
        (
            "any of fewer rules",
            vec![
                ("/u/{id}", GET, "access = { any = [{ roles = [\"admin\"] }, { owner = \"id\" }] }"),
                ("/u/all", GET, ADMIN),
            ],
            Some("/u/All"),
        ),
        (
            "another name of the same service",
            vec![user, ("/app/admin", GET, "access = { roles = [\"admin\"] }\nupstream = \"twin\"")],
            Some("/app/Admin"),
        ),
        (
            "a question to the revocation log",
            vec![user, ("/app/pay", GET, "access = \"user\"\nrevocation = \"strict\"")],
            Some("/app/Pay"),
        ),
        (
            "another parameter's owner",
            vec![
                ("/u/{id}/{post}", GET, "access = { owner = \"id\" }"),
                ("/u/all/{id}", GET, "access = { owner = \"id\" }"),
            ],
            Some("/u/All/~0"),
        ),
        (
            "the same owner",
            vec![
                ("/u/{id}/{post}", GET, "access = { owner = \"id\" }"),
                ("/u/{user}/all", GET, "access = { owner = \"user\" }"),
            ],
            None,
        ),
        ("a network", vec![user, ("/app/admin", GET, "access = { network = [\"192.0.2.0/24\"] }")], Some("/app/Admin")),
        (
            "an authorizer",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nauthorizer = \"pdp\""),
                ("/app/admin", GET, "access = \"user\"\nauthorizer = \"pdp\""),
            ],
            Some("/app/Admin"),
        ),
        (
            "no authorizer",
            vec![("/app/{*rest}", GET, "access = \"user\"\nauthorizer = \"pdp\""), ("/app/open", GET, USER)],
            None,
        ),
        (
            "a smaller network",
            vec![
                ("/app/{*rest}", GET, "access = { network = [\"192.0.2.0/24\"] }"),
                ("/app/admin", GET, "access = { network = [\"192.0.2.0/25\"] }"),
            ],
            Some("/app/Admin"),
        ),
        (
            "a wider network",
            vec![
                ("/app/{*rest}", GET, "access = { network = [\"192.0.2.0/25\", \"2001:db8::/48\"] }"),
                ("/app/admin", GET, "access = { network = [\"2001:db8::/32\", \"192.0.2.0/24\"] }"),
            ],
            None,
        ),
        (
            "a network of the other family",
            vec![
                ("/app/{*rest}", GET, "access = { network = [\"2001:db8::/32\"] }"),
                ("/app/admin", GET, "access = { network = [\"0.0.0.0/1\"] }"),
            ],
            Some("/app/Admin"),
        ),
        (
            "another country",
            vec![
                ("/app/{*rest}", GET, "access = { country = [\"DE\", \"FR\"] }"),
                ("/app/admin", GET, "access = { country = [\"DE\"] }"),
            ],
            Some("/app/Admin"),
        ),
        (
            "more countries",
            vec![
                ("/app/{*rest}", GET, "access = { all = [{ country = [\"DE\"] }, { roles = [\"a\"] }] }"),
                ("/app/admin", GET, "access = { country = [\"DE\", \"FR\"] }"),
            ],
            None,
        ),
        (
            "a more recent login",
            vec![("/app/{*rest}", GET, "access = { max_age = 600 }"), ("/app/pay", GET, "access = { max_age = 300 }")],
            Some("/app/Pay"),
        ),
        (
            "an older login",
            vec![("/app/{*rest}", GET, "access = { max_age = 300 }"), ("/app/pay", GET, "access = { max_age = 600 }")],
            None,
        ),
        (
            "a class of login",
            vec![
                ("/app/{*rest}", GET, "access = { acr = [\"a\", \"b\"] }"),
                ("/app/pay", GET, "access = { acr = [\"a\"] }"),
            ],
            Some("/app/Pay"),
        ),
        (
            "another tenant",
            vec![
                ("/{tenant}/{*rest}", GET, "access = { claim = \"tenant\", equals_path = \"tenant\" }"),
                ("/all/{tenant}", GET, "access = { claim = \"tenant\", equals_path = \"tenant\" }"),
            ],
            Some("/All/~0"),
        ),
        (
            "the same tenant",
            vec![
                ("/{tenant}/{*rest}", GET, "access = { claim = \"tenant\", equals_path = \"tenant\" }"),
                ("/{t}/all", GET, "access = { claim = \"tenant\", equals_path = \"t\" }"),
            ],
            None,
        ),
        (
            "the same tenant by another claim",
            vec![
                ("/{tenant}/{*rest}", GET, "access = { claim = \"tenant\", equals_path = \"tenant\" }"),
                ("/{t}/all", GET, "access = { claim = \"org\", equals_path = \"t\" }"),
            ],
            Some("/~0/All"),
        ),
        (
            "the tenant of the host as well",
            vec![
                ("/{tenant}/{*rest}", GET, "access = { claim = \"tenant\", equals_path = \"tenant\" }"),
                (
                    "/{t}/all",
                    GET,
                    "access = { claim = \"tenant\", equals_path = \"t\", equals_host = \"{t}.api.example.com\" }",
                ),
            ],
            Some("/~0/All"),
        ),
        ("a stricter rule", vec![("/app/{*rest}", GET, ADMIN), ("/app/open", GET, USER)], None),
        ("the same rule", vec![user, ("/app/me", GET, USER)], None),
        (
            "more roles",
            vec![("/app/{*rest}", GET, ADMIN), ("/app/ops", GET, "access = { roles = [\"ops\", \"admin\"] }")],
            None,
        ),
        ("an owner is a user", vec![("/u/{id}", GET, "access = { owner = \"id\" }"), ("/u/me", GET, USER)], None),
        ("another method", vec![user, ("/app/admin", "[\"PUT\"]", ADMIN)], None),
        (
            "another service",
            vec![user, ("/app/admin", GET, "access = { roles = [\"admin\"] }\nupstream = \"other\"")],
            None,
        ),
        (
            "another path at the service",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nreplace_prefix = { from = \"/app\", to = \"/v2\" }"),
                ("/app/admin", GET, ADMIN),
            ],
            None,
        ),
        (
            "a looser route that is rewritten to the strict one's path",
            vec![("/shop/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/shop\""), ("/admin", GET, ADMIN)],
            Some("/shop/admin reaches the same path of the service through the looser route \"/shop/{*rest}\""),
        ),
        (
            "a looser route below its own prefix",
            vec![("/app/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/app\""), ("/app/admin", GET, ADMIN)],
            Some("/app/app/admin reaches the same path"),
        ),
        (
            "a strict route that is rewritten to a looser one's path",
            vec![
                ("/{*rest}", GET, USER),
                (
                    "/v1/{*rest}",
                    GET,
                    "access = { roles = [\"admin\"] }\nreplace_prefix = { from = \"/v1\", to = \"/v2\" }",
                ),
            ],
            Some("/v2/~0 reaches the same path of the service through the looser route \"/{*rest}\""),
        ),
        (
            "another prefix to the same path",
            vec![
                ("/old/{*rest}", GET, "access = \"user\"\nreplace_prefix = { from = \"/old\", to = \"/v2\" }"),
                (
                    "/new/admin",
                    GET,
                    "access = { roles = [\"admin\"] }\nreplace_prefix = { from = \"/new\", to = \"/v2\" }\nupstream = \"twin\"",
                ),
            ],
            Some("/old/admin reaches the same path"),
        ),
        (
            "the prefix alone",
            vec![("/shop", GET, "access = \"public\"\nstrip_prefix = \"/shop\""), ("/", GET, ADMIN)],
            Some("/shop reaches the same path"),
        ),
        (
            "a rewritten route that variants do not refuse",
            vec![
                ("/shop/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/shop\""),
                ("/admin", GET, "access = { roles = [\"admin\"] }\nvariants = \"refuse\""),
            ],
            Some("/shop/admin reaches the same path"),
        ),
        (
            "a rewritten route that is allowed",
            vec![
                ("/shop/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/shop\""),
                ("/admin", GET, "access = { roles = [\"admin\"] }\nvariants = { allow = \"every user is one\" }"),
            ],
            None,
        ),
        (
            "a rewritten route that is as strict",
            vec![
                ("/shop/{*rest}", GET, "access = { roles = [\"admin\"] }\nstrip_prefix = \"/shop\""),
                ("/admin", GET, USER),
            ],
            None,
        ),
        (
            "a rest under several parameters",
            vec![("/app/{x}/{y}/{z}", GET, USER), ("/app/admin/{*rest}", GET, ADMIN)],
            Some("/app/Admin/~0/~1 matches the looser route \"/app/{x}/{y}/{z}\""),
        ),
        (
            "a parameter at a fixed segment of a rewritten route",
            vec![("/shop/users/me", GET, "access = \"user\"\nstrip_prefix = \"/shop\""), ("/users/{id}", GET, ADMIN)],
            Some("/shop/users/me reaches the same path of the service through the looser route \"/shop/users/me\""),
        ),
        (
            "a rest at fixed segments of a rewritten route",
            vec![
                ("/shop/a/{b}/c", GET, "access = \"user\"\nstrip_prefix = \"/shop\""),
                ("/a/{*rest}", GET, "access = { roles = [\"admin\"] }\nvariants = \"refuse\""),
            ],
            Some("/shop/a/~0/c reaches the same path"),
        ),
        (
            "several segments at once",
            vec![("/{x}/{y}", GET, USER), ("/a/{y}", GET, ALLOWED), ("/{x}/b", GET, ALLOWED), ("/a/b", GET, ADMIN)],
            Some("/A/B matches the looser route \"/{x}/{y}\""),
        ),
        (
            "a rewritten route with a stricter one before it",
            vec![
                ("/shop/{*rest}", GET, "access = \"user\"\nstrip_prefix = \"/shop\""),
                (
                    "/shop/admin",
                    GET,
                    "access = { roles = [\"admin\"] }\nstrip_prefix = \"/shop\"\nvariants = \"refuse\"",
                ),
                ("/admin", GET, ADMIN),
            ],
            None,
        ),
        ("a fixed segment under a parameter", vec![("/users/me", GET, USER), ("/users/{id}", GET, ADMIN)], None),
        (
            "a fixed segment with a route of its own",
            vec![
                ("/shop/users/me", GET, "access = \"user\"\nstrip_prefix = \"/shop\""),
                ("/users/me", GET, USER),
                ("/users/{id}", GET, ADMIN),
            ],
            None,
        ),
        (
            "the same owner under several prefixes",
            vec![
                ("/a/u/{id}", GET, "access = { owner = \"id\" }\nstrip_prefix = \"/a\""),
                ("/b/u/{id}", GET, "access = { owner = \"id\" }\nstrip_prefix = \"/b\""),
                ("/u/{user}", GET, "access = { owner = \"user\" }"),
            ],
            None,
        ),
        (
            "another parameter's owner under a prefix",
            vec![
                ("/a/{id}/{post}", GET, "access = { owner = \"id\" }\nstrip_prefix = \"/a\""),
                ("/b/{post}/{id}", GET, "access = { owner = \"id\" }\nstrip_prefix = \"/b\""),
            ],
            Some("reaches the same path"),
        ),
        (
            "a route in another case, which its neighbour does not refuse",
            vec![
                ("/app/Admin", GET, USER),
                ("/app/admin", GET, "access = { roles = [\"admin\"] }\nvariants = \"refuse\""),
            ],
            Some("/app/Admin matches the looser route"),
        ),
        (
            "validation by the service's document",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nupstream = \"documented\""),
                ("/app/orders", GET, "access = \"user\"\nupstream = \"documented\"\nvalidate = true"),
            ],
            Some("/app/Orders"),
        ),
        (
            "validation of both",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nupstream = \"documented\"\nvalidate = true"),
                ("/app/orders", GET, "access = \"user\"\nupstream = \"documented\"\nvalidate = true"),
            ],
            None,
        ),
        (
            "validation of the wider route alone",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nupstream = \"documented\"\nvalidate = true"),
                ("/app/orders", GET, "access = \"user\"\nupstream = \"documented\""),
            ],
            None,
        ),
        (
            "validation of one route below a prefix",
            vec![
                ("/shop/orders/{id}", GET, "access = \"user\"\nupstream = \"documented\"\nstrip_prefix = \"/shop\""),
                ("/orders/{id}", GET, "access = \"user\"\nupstream = \"documented\"\nvalidate = true"),
            ],
            Some("/shop/orders/~0 reaches the same path"),
        ),
        (
            "a service behind a binding",
            vec![
                ("/app/{*rest}", GET, "access = \"user\"\nupstream = \"bound\""),
                ("/app/admin", GET, "access = { roles = [\"admin\"] }\nupstream = \"bound\""),
            ],
            Some("/app/Admin, /app/admin/ match the looser route \"/app/{*rest}\""),
        ),
        (
            "a prefix before a service behind a binding",
            vec![
                ("/shop/{*rest}", GET, "access = \"user\"\nupstream = \"bound\"\nstrip_prefix = \"/shop\""),
                ("/admin", GET, "access = { roles = [\"admin\"] }\nupstream = \"bound\""),
            ],
            Some("/shop/admin"),
        ),
        ("no overlap", vec![("/a/{id}/x", GET, USER), ("/a/all", GET, ADMIN)], None),
        ("refused", vec![user, ("/app/admin", GET, "access = { roles = [\"admin\"] }\nvariants = \"refuse\"")], None),
        ("allowed", vec![user, ("/app/admin", GET, ALLOWED)], None),
    ] {
        let actual = check(&with_routes(&routes)).err().map(|mistakes| mistakes[0].message.clone());
        match expected {
            None => assert_eq!(actual, None, "{name}"),
            Some(words) => assert!(actual.as_ref().is_some_and(|actual| actual.contains(words)), "{name}: {actual:?}"),
        }
    }
}

#[test]
fn paths_that_differ_in_case_conflict_where_variants_are_refused() {
    const GET: &str = "[\"GET\"]";
    let user = "access = \"user\"";
    let routes = [("/a/{x}", GET, user), ("/A/{*rest}", GET, "access = \"user\"\nvariants = \"refuse\"")];
    let actual = check(&with_routes(&routes)).unwrap_err();
    assert!(actual[0].message.contains("differ in case"), "{actual:?}");
}

/// Routes with one rule each, below prefixes of their own, that lead to the same paths of the service.
fn below_prefixes(count: usize, rule: impl Fn(usize) -> String) -> String {
    let route = |number: usize| {
        (format!("/t{number}/users/{{id}}"), format!("{}\nstrip_prefix = \"/t{number}\"", rule(number)))
    };
    let routes: Vec<(String, String)> = (0..count).map(route).collect();
    let routes: Vec<_> = routes.iter().map(|(path, rest)| (path.as_str(), "[\"GET\"]", rest.as_str())).collect();
    with_routes(&routes)
}

#[test]
fn thousands_of_owners_below_prefixes_of_their_own_bypass_no_rule() {
    assert_eq!(check(&below_prefixes(2_000, |_| "access = { owner = \"id\" }".to_owned())).err(), None);
}

#[test]
fn names_of_parameters_make_no_difference_to_the_search() {
    let route = |n: usize| {
        (format!("/t{n}/users/{{id{n}}}"), format!("access = {{ owner = \"id{n}\" }}\nstrip_prefix = \"/t{n}\""))
    };
    let routes: Vec<_> = (0..2_000).map(route).collect();
    let routes: Vec<_> = routes.iter().map(|(path, rest)| (path.as_str(), "[\"GET\"]", rest.as_str())).collect();
    assert_eq!(check(&with_routes(&routes)).err(), None);
}

#[test]
fn thousands_of_routes_that_begin_with_a_parameter_are_compared_with_their_like() {
    let route = |n: usize| (format!("/{{tenant}}/a{n}/{{*rest}}"), format!("access = {{ roles = [\"r{n}\"] }}"));
    let mut routes: Vec<_> = (0..5_000).map(route).collect();
    routes.push(("/{tenant}/a7/{id}".to_owned(), "access = \"user\"".to_owned()));
    let routes: Vec<_> = routes.iter().map(|(path, rest)| (path.as_str(), "[\"GET\"]", rest.as_str())).collect();
    assert_eq!(check(&with_routes(&routes)).unwrap_err().len(), 1);
    assert_eq!(check(&with_routes(&routes[..5_000])).err(), None);
}

#[test]
fn more_pairs_of_rules_than_can_be_compared_are_a_mistake() {
    // Each rule is as strict as each other one.
    let rule = |n: usize| {
        let (roles, limits, issuers) = (vec!["r"; n % 10 + 1], vec!["login"; n / 10 % 10 + 1], vec!["id"; n / 100 + 1]);
        format!("access = {{ roles = {roles:?} }}\nlimits = {limits:?}\nissuers = {issuers:?}")
    };
    assert_eq!(check(&below_prefixes(100, rule)).err(), None);
    let mistakes = check(&below_prefixes(1_001, rule)).unwrap_err();
    assert!(mistakes.len() == 1 && mistakes[0].message.contains("cannot be compared"), "{mistakes:?}");
}

#[test]
fn rules_too_wide_to_compare_count_as_looser() {
    let nested = |kind: &str, role: &str| {
        let role = |is_last: bool| format!("{{ roles = [\"{}\"] }}", if is_last { "last" } else { role });
        (1..=4).fold([role(false), role(true)], |[rule, last], _| {
            let wide = |last: &String| format!("{{ {kind} = [{}{last}] }}", format!("{rule}, ").repeat(7));
            [wide(&rule), wide(&last)]
        })
    };
    let ([_, looser], [_, strict]) = (nested("all", "a"), nested("any", "b"));
    let (looser, strict) = (format!("access = {looser}"), format!("access = {strict}"));
    let routes = [("/app/{*rest}", "[\"GET\"]", looser.as_str()), ("/app/admin", "[\"GET\"]", strict.as_str())];
    let mistakes = check(&with_routes(&routes)).unwrap_err();
    assert!(mistakes[0].message.contains("/app/Admin, /app/admin/ match the looser route"), "{mistakes:?}");
}

#[test]
fn two_upstreams_are_one_service_however_its_url_is_written() {
    let routes =
        [("/app/{*rest}", "[\"GET\"]", "access = \"user\"\nupstream = \"twin\""), ("/app/admin", "[\"GET\"]", ADMIN)];
    let policy = with_routes(&routes);
    for (url, is_same) in [
        ("https://shop.example.com", true),
        ("https://Shop.Example.com:443/", true),
        ("https://shop.example.com.", true),
        ("https://shop.example.com:8443", false),
    ] {
        let twin = format!("[upstreams.twin]\nurl = \"{url}\"");
        let text = policy.replace("[upstreams.twin]\nurl = \"https://shop.example.com\"", &twin);
        assert_eq!(check(&text).is_err(), is_same, "{url}");
    }
}

#[test]
fn two_upstreams_with_one_binding_are_one_service_whatever_their_urls() {
    let routes =
        [("/app/{*rest}", "[\"GET\"]", "access = \"user\"\nupstream = \"twin\""), ("/app/admin", "[\"GET\"]", ADMIN)];
    let policy = with_routes(&routes);
    for (shop, twin, is_same) in [
        ("binding = \"SHOP\"", "binding = \"SHOP\"", true),
        ("binding = \"SHOP\"", "binding = \"SHOP\"\nurl = \"https://twin.example.com\"", true),
        (
            "binding = \"SHOP\"\ntargets = [{ url = \"http://a.internal\" }]",
            "binding = \"SHOP\"\nurl = \"http://b.internal\"",
            true,
        ),
        ("url = \"https://shop.example.com\"", "binding = \"SHOP\"\nurl = \"https://shop.example.com\"", true),
        ("binding = \"SHOP\"", "binding = \"shop\"", false),
        ("binding = \"SHOP\"", "url = \"https://shop.example.com\"", false),
    ] {
        let text = policy
            .replace("[upstreams.twin]\nurl = \"https://shop.example.com\"", &format!("[upstreams.twin]\n{twin}"))
            .replace("[upstreams.shop]\nurl = \"https://shop.example.com\"", &format!("[upstreams.shop]\n{shop}"));
        assert_eq!(check(&text).is_err(), is_same, "{shop}, {twin}");
    }
}

#[test]
fn a_search_of_too_many_steps_is_a_mistake() {
    let routes = |count: usize| {
        let one = (0..count).map(|n| (format!("/a{n}/{{x}}/c"), format!("access = {{ roles = [\"a{n}\"] }}")));
        let other = (0..count).map(|n| (format!("/{{x}}/b{n}/d"), format!("access = {{ roles = [\"b{n}\"] }}")));
        let routes: Vec<_> = one.chain(other).collect();
        let routes: Vec<_> = routes.iter().map(|(path, rest)| (path.as_str(), "[\"GET\"]", rest.as_str())).collect();
        check(&with_routes(&routes)).err()
    };
    assert_eq!(routes(100), None);
    let mistakes = routes(1_500).unwrap();
    assert!(mistakes.len() == 1 && mistakes[0].message.contains("cannot be compared"), "{mistakes:?}");
}

#[test]
fn a_bounded_number_of_bypasses_is_reported() {
    let mistakes = check(&below_prefixes(300, |number| format!("access = {{ roles = [\"r{number}\"] }}"))).unwrap_err();
    assert_eq!(mistakes.len(), portcullis_policy::limits::BYPASSES);
}
