//! Mistakes in a policy: each is reported with its place and its fix.

use portcullis_policy::check;

use crate::config::VALID;

#[test]
fn each_mistake_is_reported_with_its_line_and_its_fix() {
    let more = |text: &str| format!("{VALID}{text}");
    let swap = |from: &str, to: &str| {
        assert!(VALID.contains(from), "{from}");
        VALID.replacen(from, to, 1)
    };
    let route = |text: &str| more(&format!("\n[[routes]]\n{text}\n"));
    // name, policy, line, words of the message
    for (name, text, line, words) in [
        ("syntax", swap("[issuers.id]", "[issuers.id"), 1, ""),
        ("unknown key", swap("access =", "acess ="), 14, "acess"),
        ("unknown table", more("[limit]\n"), 15, "limit"),
        ("no access rule", swap("access = \"user\"\n", ""), 10, "no access rule"),
        ("unknown access", swap("\"user\"", "\"everyone\""), 14, "everyone"),
        ("unknown access key", swap("\"user\"", "{ role = \"x\" }"), 14, "roles"),
        ("two access keys", swap("\"user\"", "{ owner = \"id\", roles = [\"x\"] }"), 14, "one key"),
        ("no roles", swap("\"user\"", "{ roles = [] }"), 14, "no caller is permitted"),
        ("empty any", swap("\"user\"", "{ any = [] }"), 14, "at least one rule"),
        ("public inside any", swap("\"user\"", "{ any = [\"public\"] }"), 14, "open the whole route"),
        ("too many roles", swap("\"user\"", &format!("{{ roles = {:?} }}", ["x"; 101])), 14, "write at most 100"),
        ("an empty role", swap("\"user\"", "{ roles = [\"x\", \"\"] }"), 14, "no caller is permitted"),
        ("too many rules", swap("\"user\"", &format!("{{ any = {:?} }}", ["user"; 101])), 14, "write at most 100"),
        ("too many limits", more(&format!("limits = {:?}\n[limits.a]\nby = \"ip\"\n", ["a"; 11])), 15, "write at most 10"),
        ("a long role", swap("\"user\"", &format!("{{ roles = [\"{}\"] }}", "r".repeat(1_025))), 14, "write at most 1024"),
        ("a long scope", swap("\"user\"", &format!("{{ scopes = [\"{}\"] }}", "s".repeat(1_025))), 14, "write at most 1024"),
        ("a long claim", swap("\"user\"", &format!("{{ claim = \"{}\" }}", "c".repeat(1_025))), 14, "1 to 1024 bytes"),
        ("a long path", swap("/items", &format!("/{}", "p".repeat(1_025))), 11, "path has a text of 1031 bytes"),
        (
            "a long prefix",
            more(&format!("replace_prefix = {{ from = \"/items\", to = \"/{}\" }}\n", "p".repeat(1_024))),
            15,
            "write at most 1024",
        ),
        ("a long audience", swap("\"api\"", &format!("\"{}\"", "a".repeat(1_025))), 3, "write at most 1024"),
        ("a long issuer", swap("https://id.example.com/\"", &format!("{}\"", "i".repeat(1_025))), 2, "write at most 1024"),
        ("a long type", swap("jwks_url", &format!("types = [\"{}\"]\njwks_url", "t".repeat(1_025))), 5, "write at most 1024"),
        ("a long URL of keys", swap("com/jwks", &format!("com/{}", "k".repeat(1_025))), 5, "write at most 1024"),
        (
            "a long header of pages",
            more(&format!("[cors.app]\norigins = [\"*\"]\nheaders = [\"{}\"]\n", "h".repeat(101))),
            17,
            "write a name of 1 to 100",
        ),
        (
            "a long header",
            more(&format!("request_headers = {{ remove = [\"{}\"] }}\n", "h".repeat(101))),
            15,
            "write a name of 1 to 100",
        ),
        ("no scopes", swap("\"user\"", "{ scopes = [] }"), 14, "no caller is permitted"),
        ("a claim of no name", swap("\"user\"", "{ claim = \"\" }"), 14, "claim is a name"),
        ("a claim like a list", swap("\"user\"", "{ claim = \"x\", equals = [1] }"), 14, "compared with a string"),
        ("a claim like nothing", swap("\"user\"", "{ claim = \"x\", one_of = [] }"), 14, "at least one of these"),
        (
            "a claim like too much",
            swap("\"user\"", &format!("{{ claim = \"x\", one_of = {:?} }}", [1; 101])),
            14,
            "and at most 100",
        ),
        ("too many types", swap("jwks_url", &format!("types = {:?}\njwks_url", ["x"; 101])), 5, "write at most 100"),
        (
            "too many rules for claims",
            swap("jwks_url", &format!("require = [{}]\njwks_url", "{ claim = \"x\" },".repeat(101))),
            5,
            "write at most 100",
        ),
        (
            "too many headers",
            more(&format!("[cors.app]\norigins = [\"*\"]\nexpose = {:?}\n", ["x"; 101])),
            17,
            "write at most 100",
        ),
        ("a claim with two rules", swap("\"user\"", "{ claim = \"x\", equals = 1, one_of = [1] }"), 14, "both equals and one_of"),
        ("no issuer of that name", more("issuers = [\"other\"]\n"), 15, "no issuer is named \"other\" (defined: id)"),
        ("no issuers", more("issuers = []\n"), 15, "no caller is permitted"),
        ("a prefix that is not the path's", more("strip_prefix = \"/shop\"\n"), 15, "with which the path begins"),
        ("half a segment", more("strip_prefix = \"/item\"\n"), 15, "with which the path begins"),
        ("a parameter as prefix", more("strip_prefix = \"/items/{id}\"\n"), 15, "fixed segments"),
        ("a prefix of dots", more("replace_prefix = { from = \"/items\", to = \"/..\" }\n"), 15, "fixed segments"),
        (
            "two prefixes",
            more("strip_prefix = \"/items\"\nreplace_prefix = { from = \"/items\", to = \"/x\" }\n"),
            16,
            "keep one of them",
        ),
        ("no retries of that number", swap("[[routes]]", "retries = 4\n\n[[routes]]"), 10, "write 0 to 3"),
        ("no place", swap("url = \"https://shop.example.com\"\n", ""), 7, "say where it is, once"),
        (
            "two kinds of place",
            swap(
                "url = \"https://shop.example.com\"\n",
                "url = \"https://a.example\"\ntargets = [{ url = \"https://b.example\" }]\n",
            ),
            7,
            "say where it is, once",
        ),
        ("an idle time of nothing", swap("[[routes]]", "idle_timeout_ms = 0\n\n[[routes]]"), 10, "write 1 to 3600000"),
        (
            "maintenance for ever",
            swap("[[routes]]", "maintenance = { retry_after_s = 99999 }\n\n[[routes]]"),
            10,
            "write 1 to 86400",
        ),
        ("a cookie of no name", more("token_cookie = true\n"), 10, "add [token_cookie]"),
        (
            "a cookie that others can set",
            more("token_cookie = true\n[token_cookie]\nname = \"token\"\n"),
            17,
            "must begin with __Host-",
        ),
        (
            "a cookie on a public route",
            swap("access = \"user\"", "access = \"public\"\ntoken_cookie = true\n[token_cookie]\nname = \"__Host-t\""),
            10,
            "a public route looks at no token",
        ),
        (
            "identity by rule",
            more("request_headers = { set = { X-User-Id = \"1\" } }\n"),
            15,
            "request_headers cannot touch \"X-User-Id\"",
        ),
        (
            "identity that another proxy asserts",
            more("request_headers = { set = { Remote_User = \"root\" } }\n"),
            15,
            "request_headers cannot touch \"Remote_User\"",
        ),
        (
            "identity in an answer",
            more("response_headers = { set = { x-acting-user = \"root\" } }\n"),
            15,
            "response_headers cannot touch \"x-acting-user\"",
        ),
        (
            "identity in another spelling",
            more("request_headers = { remove = [\"x_gateway_assertion\"] }\n"),
            15,
            "the gateway or the runtime makes it",
        ),
        (
            "a secret in the policy",
            more("request_headers = { set = { authorization = \"Basic x\" } }\n"),
            15,
            "a policy holds no secret",
        ),
        (
            "cors by rule",
            more("response_headers = { set = { access-control-allow-origin = \"*\" } }\n"),
            15,
            "write a [cors.NAME]",
        ),
        ("no header's name", more("response_headers = { remove = [\"a b\"] }\n"), 15, "write a name of 1 to 100 letters"),
        (
            "a cookie by rule",
            more("response_headers = { set = { Set-Cookie = \"a=1\" } }\n"),
            15,
            "have the service set it",
        ),
        (
            "a line break in a header",
            more("response_headers = { set = { x-a = \"1\\r\\nx-b: 2\" } }\n"),
            15,
            "plain ASCII",
        ),
        ("a header twice", more("response_headers = { set = { x-a = \"1\", X-A = \"2\" } }\n"), 15, "twice"),
        ("too large a body", more("max_body_bytes = 999999999999\n"), 15, "out of range"),
        (
            "a WebSocket without GET",
            swap("methods = [\"GET\"]", "methods = [\"POST\"]\nwebsocket = true"),
            10,
            "begins with GET",
        ),
        ("strict without revocable tokens", more("revocation = \"strict\"\n"), 15, "tokens that it accepts cannot be revoked"),
        ("an end of no session", more("ends_session = true\n"), 10, "tokens that it accepts cannot be revoked"),
        (
            "strict for issuers whose tokens cannot be revoked",
            more("issuers = [\"id\"]\nrevocation = \"strict\"\n\n[issuers.other]\nissuer = \"x\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://other.example.com/jwks\"\nrevocable = true\n"),
            16,
            "tokens that it accepts cannot be revoked",
        ),
        (
            "an end of sessions that only one of the issuers has",
            more("ends_session = true\n\n[issuers.other]\nissuer = \"x\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://other.example.com/jwks\"\nrevocable = true\n"),
            10,
            "tokens that it accepts cannot be revoked",
        ),
        (
            "strict and public",
            swap("access = \"user\"", "access = \"public\"\nrevocation = \"strict\""),
            15,
            "a public route has none",
        ),
        ("no limit of that name", more("limits = [\"x\"]\n"), 15, "no limit is named \"x\""),
        ("a limit by nothing", more("[limits.x]\nby = \"cookie\"\n"), 16, "cookie"),
        (
            "a limit by user of a public route",
            swap("access = \"user\"", "access = \"public\"\nlimits = [\"x\"]\n[limits.x]\nby = \"user\""),
            15,
            "a public route knows none",
        ),
        ("no cors of that name", more("cors = \"app\"\n"), 15, "no cors is named \"app\" (defined: none is)"),
        (
            "too many origins",
            more(&format!("[cors.app]\norigins = {:?}\n", ["https://a.example"; 101])),
            16,
            "write at most 100",
        ),
        ("cors without origins", more("[cors.app]\norigins = []\n"), 16, "origins is empty"),
        ("cors with a path", more("[cors.app]\norigins = [\"https://a.example/\"]\n"), 16, "is no origin"),
        ("cors of null", more("[cors.app]\norigins = [\"null\"]\n"), 16, "is no origin"),
        ("cors with the scheme's port", more("[cors.app]\norigins = [\"https://a.example:443\"]\n"), 16, "no port that the scheme implies"),
        ("cors over HTTP with its port", more("[cors.app]\norigins = [\"http://a.example:80\"]\n"), 16, "is no origin"),
        ("cors of no host", more("[cors.app]\norigins = [\"https://:8443\"]\n"), 16, "is no origin"),
        ("cors of half an address", more("[cors.app]\norigins = [\"https://[\"]\n"), 16, "is no origin"),
        ("cors with half a port", more("[cors.app]\norigins = [\"https://a.example:\"]\n"), 16, "is no origin"),
        ("cors in upper case", more("[cors.app]\norigins = [\"https://A.example\"]\n"), 16, "is no origin"),
        ("cors of half a label", more("[cors.app]\norigins = [\"https://*a.example\"]\n"), 16, "is no origin"),
        (
            "credentials for every origin",
            more("[cors.app]\norigins = [\"*\"]\ncredentials = true\n"),
            16,
            "credentials cannot go to",
        ),
        ("too young a copy", more("[revocation]\nmax_age_s = 4\n"), 16, "write 5 to 3600"),
        (
            "algorithms of opaque tokens",
            swap("jwks_url", "introspection = { url = \"https://id.example.com/i\" }\njwks_url"),
            4,
            "algorithms is for tokens with a signature",
        ),
        (
            "keys of opaque tokens",
            swap("jwks_url", "introspection = { url = \"https://id.example.com/i\" }\njwks_url"),
            1,
            "an issuer of opaque tokens has no keys",
        ),
        (
            "an introspection with its secret",
            swap("jwks_url", "introspection = { url = \"https://id.example.com/i\", secret = \"c2VjcmV0\" }\njwks_url"),
            5,
            "unknown",
        ),
        ("revocations from an empty name", swap("jwks_url", "revocations_from = \"\"\njwks_url"), 5, "is empty"),
        ("logout without audience", swap("jwks_url", "logout = { audience = [] }\njwks_url"), 5, "audience is empty"),
        ("events without audience", swap("jwks_url", "events = { audience = [\"\"] }\njwks_url"), 5, "has an empty name"),
        (
            "events of no issuer",
            swap("jwks_url", "events = { audience = [\"a\"], issuer = \"\" }\njwks_url"),
            5,
            "exact `iss` of the events",
        ),
        (
            "events of tenants",
            swap("jwks_url", "events = { audience = [\"a\"], issuer = \"https://id.example/{tenantid}\" }\njwks_url"),
            5,
            "exact `iss` of the events",
        ),
        (
            "logout of users by another claim",
            swap("jwks_url", "logout = { audience = [\"a\"] }\nclaims = { user_id = \"oid\" }\njwks_url"),
            5,
            "leave claims.user_id out",
        ),
        (
            "logout of a preset's users by another claim",
            swap("jwks_url", "provider = \"entra-id\"\nlogout = { audience = [\"a\"] }\njwks_url"),
            6,
            "leave claims.user_id out",
        ),
        (
            "logout of sessions by another claim",
            swap("jwks_url", "logout = { audience = [\"a\"] }\nclaims = { session = \"session_id\" }\njwks_url"),
            5,
            "logout names them by `sid`, and the tokens of this issuer, or of its provider, by another claims.session",
        ),
        (
            "logout of a preset's sessions by another claim",
            swap("jwks_url", "provider = \"supabase\"\nlogout = { audience = [\"a\"] }\njwks_url"),
            6,
            "leave claims.session out",
        ),
        (
            "events of sessions by a claim within another",
            swap("jwks_url", "events = { audience = [\"a\"] }\nclaims = { session = [\"sid\", \"id\"] }\njwks_url"),
            5,
            "leave claims.session out, or events",
        ),
        ("logout without a list", swap("jwks_url", "logout = true\njwks_url"), 5, "expected struct Logout"),
        ("owner of nothing", swap("\"user\"", "{ owner = \"user\" }"), 14, "not a parameter"),
        (
            "unknown upstream",
            swap("upstream = \"shop\"", "upstream = \"store\""),
            13,
            "no upstream is named \"store\" (defined: shop)",
        ),
        ("a token header of no name", swap("jwks_url", "token_header = \"X Token\"\njwks_url"), 5, "is not the name of a header"),
        ("tokens in a cookie header", swap("jwks_url", "token_header = \"Cookie\"\njwks_url"), 5, "uses otherwise"),
        (
            "a rule for a token header",
            swap("jwks_url", "token_header = \"X-Token\"\njwks_url")
                + "request_headers = { set = { x_token = \"1\" } }\n",
            16,
            "it is the token_header of an issuer",
        ),
        ("keys and a URL", swap("jwks_url", "jwks = { keys = [] }\njwks_url"), 1, "say where its keys are, once"),
        ("a file of keys and a URL", swap("jwks_url", "jwks_file = \"keys.json\"\njwks_url"), 1, "say where its keys are, once"),
        ("a file of keys that is missing", swap("jwks_url = \"https://id.example.com/jwks\"", "jwks_file = \"keys.json\""), 5, "the file of jwks_file cannot be read"),
        ("a file of keys elsewhere", swap("jwks_url = \"https://id.example.com/jwks\"", "jwks_file = \"/etc/keys.json\""), 5, "must be a relative path inside"),
        ("a file of keys above", swap("jwks_url = \"https://id.example.com/jwks\"", "jwks_file = \"keys/../../id.json\""), 5, "must be a relative path inside"),
        ("a document elsewhere", swap("[[routes]]", "openapi = \"/etc/shop.yaml\"\n[[routes]]"), 10, "must be a relative path inside"),
        ("a document by URL", swap("[[routes]]", "openapi = \"https://x/a.yaml\"\n[[routes]]"), 10, "must be a relative path inside"),
        ("validation without a document", more("validate = true\n"), 15, "needs the OpenAPI document of its upstream"),
        ("a long document", swap("[[routes]]", &format!("openapi = \"{}\"\n[[routes]]", "a".repeat(1_025))), 10, "write at most 1024"),
        (
            "a prefix without a document",
            swap("[[routes]]", "openapi_prefix = \"/v1\"\n[[routes]]"),
            10,
            "openapi_prefix needs openapi",
        ),
        (
            "a prefix of a document with a parameter",
            swap("[[routes]]", "openapi = \"a.yaml\"\nopenapi_prefix = \"/{x}\"\n[[routes]]"),
            11,
            "one or more whole fixed segments",
        ),
        ("a key set in place of its file", swap("jwks_url = \"https://id.example.com/jwks\"", "jwks_file = '{\"d\":\"c2VjcmV0\"}'"), 5, "holds a key set; write it as jwks"),
        ("a key set in place of its path", swap("jwks_url = \"https://id.example.com/jwks\"", "jwks_upstream = \"shop\"\njwks_path = '{\"d\":\"c2VjcmV0\"}'"), 6, "jwks_path must begin with /"),
        ("discovery and a URL", swap("jwks_url", "discovery = true\njwks_url"), 1, "say where its keys are, once"),
        (
            "discovery of an issuer that is no URL",
            swap("issuer = \"https://id.example.com/\"", "issuer = \"id\"").replacen(
                "jwks_url = \"https://id.example.com/jwks\"",
                "discovery = true",
                1,
            ),
            2,
            "must begin with https://",
        ),
        (
            "discovery over plain HTTP",
            swap("issuer = \"https://id.example.com/\"", "issuer = \"http://id.example.com/\"").replacen(
                "jwks_url = \"https://id.example.com/jwks\"",
                "discovery = true",
                1,
            ),
            2,
            "plain HTTP",
        ),
        ("a claim without a name", swap("jwks_url", "claims = { roles = [] }\njwks_url"), 5, "a claim is a name"),
        ("an unknown claim", swap("jwks_url", "claims = { role = \"x\" }\njwks_url"), 5, "role"),
        (
            "require with two rules",
            swap("jwks_url", "require = [{ claim = \"a\", equals = 1, one_of = [1] }]\njwks_url"),
            5,
            "both equals and one_of",
        ),
        (
            "require with a float",
            swap("jwks_url", "require = [{ claim = \"a\", equals = 1.5 }]\njwks_url"),
            5,
            "an integer, true or false",
        ),
        (
            "require one of nothing",
            swap("jwks_url", "require = [{ claim = \"a\", one_of = [] }]\njwks_url"),
            5,
            "at least one of these",
        ),
        ("method in lower case", swap("[\"GET\"]", "[\"get\"]"), 12, "upper case"),
        ("no method", swap("[\"GET\"]", "[]"), 12, "names no method"),
        ("path without slash", swap("/items/{id}", "items"), 11, "must begin with /"),
        ("empty segment", swap("/items/{id}", "/items//{id}"), 11, "can never match"),
        ("a segment of three dots", swap("/items/{id}", "/items/.../{id}"), 11, "can never match"),
        ("dot segment", swap("/items/{id}", "/items/../{id}"), 11, "can never match"),
        ("trailing slash", swap("/items/{id}", "/items/"), 11, "can never match"),
        ("half a parameter", swap("/items/{id}", "/items/x{id}"), 11, "can never match"),
        ("parameter without name", swap("/items/{id}", "/items/{}"), 11, "not a parameter"),
        ("parameter twice", swap("/items/{id}", "/{id}/{id}"), 11, "there twice"),
        ("rest not last", swap("/items/{id}", "/{*rest}/x"), 11, "must be last"),
        ("the gateway's own path", swap("/items/{id}", "/health"), 11, "gateway's own"),
        ("below the gateway's own path", swap("/items/{id}", "/_gateway/x"), 11, "gateway's own"),
        (
            "the same route twice",
            route("path = \"/items/{id}\"\nmethods = [\"GET\"]\nupstream = \"shop\"\naccess = \"user\""),
            17,
            "the first is on line 11",
        ),
        (
            "ambiguous paths",
            route("path = \"/items/{name}\"\nmethods = [\"POST\"]\nupstream = \"shop\"\naccess = \"user\""),
            17,
            "conflicts with another route",
        ),
        ("upstream over plain HTTP", swap("https://shop", "http://shop"), 8, "plain HTTP"),
        ("upstream with a path", swap("shop.example.com", "shop.example.com/base"), 8, "host alone"),
        ("upstream without scheme", swap("https://shop", "shop"), 8, "https://"),
        ("upstream with credentials", swap("https://shop", "https://me:pw@shop"), 8, "credentials"),
        ("upstream with a bad port", swap("shop.example.com", "shop.example.com:99999"), 8, "port"),
        ("upstream without a host", swap("shop.example.com", ":8443"), 8, "no valid host"),
        ("upstream at half an address", swap("shop.example.com", "["), 8, "no valid host"),
        ("upstream at no address", swap("shop.example.com", "[1]:8443"), 8, "no valid host"),
        ("upstream with an empty label", swap("shop.example.com", "shop..com"), 8, "no valid host"),
        ("upstream at half an IPv4 address", swap("shop.example.com", "10.0.0"), 8, "no valid host"),
        ("upstream with two ports", swap("shop.example.com", "shop.example.com:1:2"), 8, "no valid host"),
        ("bad upstream name", swap("[upstreams.shop]", "[upstreams.Shop_1]"), 7, "a-z, 0-9 and -"),
        ("time-out out of range", swap("[[routes]]", "timeout_ms = 0\n\n[[routes]]"), 10, "out of range"),
        (
            "an unknown provider",
            swap("issuer = \"https", "provider = \"auth1\"\nissuer = \"https"),
            2,
            "choose from auth0, clerk, cloudflare-access, cognito, entra-id, firebase, google, google-iap, keycloak, \
             kubernetes, okta, supabase",
        ),
        ("no algorithms", swap("algorithms = [\"RS256\"]\n", ""), 1, "algorithms is missing"),
        ("a template without tenants", swap("id.example.com/", "id.example.com/{tenantid}/"), 2, "tenants = ["),
        (
            "tenants without a template",
            swap("jwks_url", "tenants = [\"t1\"]\njwks_url"),
            5,
            "needs an issuer with {tenantid}",
        ),
        (
            "a template with two places",
            swap("id.example.com/\"", "id.example.com/{tenantid}/{tenantid}\"\ntenants = [\"t1\"]"),
            3,
            "once",
        ),
        (
            "a tenant that is all of them",
            swap("id.example.com/\"", "id.example.com/{tenantid}/\"\ntenants = [\"common\"]"),
            3,
            "common, organizations and consumers are none",
        ),
        (
            "a tenant that leads elsewhere",
            swap("id.example.com/\"", "id.example.com/{tenantid}/\"\ntenants = [\"a/b\"]"),
            3,
            "ids as they stand in `iss`",
        ),
        (
            "tenants that could end each other's sessions",
            swap("id.example.com/\"", "id.example.com/{tenantid}/\"\ntenants = [\"t1\"]\nrevocations_from = \"x\""),
            3,
            "revocations_from does not go with tenants",
        ),
        (
            "tenants that could log each other's users out",
            swap("id.example.com/\"", "id.example.com/{tenantid}/\"\ntenants = [\"t1\"]\nlogout = { audience = [\"a\"] }"),
            4,
            "logout does not go with tenants",
        ),
        ("an empty claim for the audience", swap("jwks_url", "audience_claim = []\njwks_url"), 5, "a claim is a name"),
        ("issuer empty", swap("https://id.example.com/\"", "\""), 2, "exact `iss`"),
        ("no audience", swap("[\"api\"]", "[]"), 3, "audience is empty"),
        ("an empty audience", swap("[\"api\"]", "[\"api\", \"\"]"), 3, "has an empty name"),
        ("no algorithm", swap("[\"RS256\"]", "[]"), 4, "algorithms is empty"),
        ("algorithm none", swap("\"RS256\"", "\"none\""), 4, "not supported"),
        ("algorithm HS256", swap("\"RS256\"", "\"HS256\""), 4, "not supported"),
        ("keys over plain HTTP", swap("https://id.example.com/jwks", "http://id.example.com/jwks"), 5, "plain HTTP"),
        ("no keys", swap("jwks_url = \"https://id.example.com/jwks\"\n", ""), 1, "say where its keys are"),
        (
            "keys from two places",
            swap("jwks_url", "jwks_upstream = \"shop\"\njwks_path = \"/jwks\"\njwks_url"),
            1,
            "say where its keys are",
        ),
        ("too much leeway", swap("jwks_url", "leeway_s = 3000\njwks_url"), 5, "out of range"),
        ("a lifetime of a year", swap("jwks_url", "max_lifetime_s = 31536000\njwks_url"), 5, "out of range"),
        (
            "two issuers of one name",
            more(
                "\n[issuers.other]\nissuer = \"https://id.example.com/\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://other.example.com/jwks\"\n",
            ),
            17,
            "one policy alone",
        ),
        (
            "rights of any issuer",
            more("\n[issuers.other]\nissuer = \"x\"\naudience = [\"b\"]\nalgorithms = [\"RS256\"]\njwks_url = \"https://other.example.com/jwks\"\n")
                .replace("access = \"user\"", "access = { any = [{ owner = \"id\" }, { roles = [\"admin\"] }] }"),
            14,
            "takes tokens of every issuer and tenant (id, other)",
        ),
        (
            "rights of any tenant",
            swap("https://id.example.com/\"", "https://id.example.com/{tenantid}/\"\ntenants = [\"a\", \"b\"]")
                .replace("access = \"user\"", "access = { roles = [\"admin\"] }"),
            15,
            "takes tokens of every issuer and tenant (id)",
        ),
        ("an upstream's slip", swap("upstream = \"shop\"", "upstream = \"shpo\""), 13, "did you mean \"shop\"?"),
        ("an issuer's slip", more("issuers = [\"di\"]\n").replace("issuers.id", "issuers.idp").replace("\"di\"", "\"ipd\""), 15, "did you mean \"idp\"?"),
        ("a limit's slip", more("limits = [\"logn\"]\n[limits.login]\nby = \"ip\"\n"), 15, "did you mean \"login\"?"),
        ("a cors policy's slip", more("cors = \"ap\"\n[cors.app]\norigins = [\"*\"]\n"), 15, "did you mean \"app\"?"),
        ("an algorithm's slip", swap("\"RS256\"", "\"RS265\""), 4, "did you mean \"RS256\"?"),
        ("an algorithm in lower case", swap("\"RS256\"", "\"rs256\""), 4, "did you mean \"RS256\"?"),
        ("a method's slip", swap("\"GET\"", "\"GTE\""), 12, "did you mean \"GET\"?"),
        ("a key's slip", swap("access =", "acess ="), 14, "did you mean `access`?"),
        ("a table's slip", more("[limit.login]\nby = \"ip\"\n"), 15, "did you mean `limits`?"),
        ("a limit's kind's slip", more("[limits.x]\nby = \"usr\"\n"), 16, "did you mean `user`?"),
        ("a parameter's slip", swap("\"user\"", "{ owner = \"di\" }").replace("{id}", "{ids}").replace("\"di\"", "\"id\""), 14, "did you mean \"ids\"?"),
        ("variants of a word", more("variants = \"allow\"\n"), 15, "write \"refuse\""),
        ("variants without a reason", more("variants = { allow = \" \" }\n"), 15, "wants the reason"),
        ("an encoded path of a word", more("encoded_path = \"forwards\"\n"), 15, "did you mean `forward`?"),
        ("a parameter of the URL", swap("/items/{id}", "/items;v=1/{id}"), 11, "can never match"),
        ("nothing at all", String::new(), 1, "no route"),
    ] {
        let mistakes = check(&text).err().unwrap_or_else(|| panic!("{name}: no mistake"));
        assert!(
            mistakes.iter().any(|mistake| mistake.line == line && mistake.message.contains(words)),
            "{name}: wanted line {line} with {words:?}, got {mistakes:#?}"
        );
        assert!(!format!("{mistakes:?}").contains("c2VjcmV0"), "{name}");
    }
}

#[test]
fn a_mistake_is_reported_once_with_its_column() {
    let text = VALID.replace("[\"RS256\"]", "[\"none\", \"none\"]").replace("/items/{id}", "/é//{id}");
    let actual: Vec<String> = check(&text).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(actual.len(), 3, "{actual:#?}");
    assert!(actual[0].starts_with("4:14: issuer \"id\": algorithm \"none\""), "{actual:#?}");
    assert!(actual[1].starts_with("11:8: route \"/é//{id}\""), "{actual:#?}");
    let text = VALID.replace("access =", "  acess =");
    assert_eq!(check(&text).unwrap_err()[0].to_string(), "14:3: unknown field `acess`; did you mean `access`?");
}

#[test]
fn a_misspelt_name_hides_no_other_mistake() {
    for (text, expected) in [
        (
            VALID.replace("access =", "acess =").replace("methods =", "method =").replace("\"shop\"", "\"shpo\""),
            &[
                "12:1: unknown field `method`",
                "13:12: route \"/items/{id}\": no upstream",
                "14:1: unknown field `acess`",
            ][..],
        ),
        (VALID.replace("access =", "acess = \"user\"\naccess ="), &["14:1: unknown field `acess`"]),
        (
            format!("{VALID}limits = [\"x\"]\n[limits.x]\nby = \"usr\"\n").replace("\"user\"", "\"public\""),
            &["15:10: route \"/items/{id}\": limit \"x\" is by user", "17:6: unknown variant `usr`"],
        ),
    ] {
        let actual: Vec<String> = check(&text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(actual.len(), expected.len(), "{actual:#?}");
        for (actual, expected) in actual.iter().zip(expected) {
            assert!(actual.starts_with(expected), "{actual} is not {expected}");
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text =
        VALID.replace("\"RS256\"", "\"none\"").replace("[\"GET\"]", "[\"get\"]").replace("https://shop", "ftp://shop");
    let lines: Vec<usize> = check(&text).unwrap_err().iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [4, 8, 12]);
}

#[test]
fn a_name_like_no_known_one_gets_no_suggestion() {
    for (text, words) in [
        (VALID.replace("upstream = \"shop\"", "upstream = \"warehouse\""), "no upstream is named \"warehouse\""),
        (VALID.replace("methods =", "surprise ="), "unknown field `surprise`, expected one of `path`, `methods`"),
    ] {
        let actual = check(&text).unwrap_err()[0].to_string();
        assert!(actual.contains(words) && !actual.contains("did you mean"), "{actual}");
    }
}

#[test]
fn the_message_about_an_unknown_name_lists_a_bounded_number_of_names() {
    for (count, shown) in [(20, 20), (21, 21), (1_000, 21)] {
        let tables: String = (0..count).map(|n| format!("[limits.x{n}]\nby = \"ip\"\n")).collect();
        let actual = check(&format!("{VALID}limits = [\"unknown\"]\n{tables}")).unwrap_err()[0].to_string();
        let (listed, _) = actual.split_once("(defined: ").unwrap().1.split_once(')').unwrap();
        assert_eq!((listed.split(", ").count(), listed.ends_with(", …")), (shown, count > 20), "{count}: {listed}");
    }
}

#[test]
fn the_message_about_rights_of_several_issuers_lists_a_bounded_number_of_names() {
    let issuer = |n: usize| {
        format!(
            "[issuers.x{n}]\nissuer = \"https://x{n}.example\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\n\
             jwks_url = \"https://x{n}.example/keys\"\n"
        )
    };
    let issuers: String = (0..30).map(issuer).collect();
    let text = VALID.replace("access = \"user\"", "access = { roles = [\"admin\"] }") + &issuers;
    let actual = check(&text).unwrap_err()[0].to_string();
    assert!(actual.contains("it takes tokens of every issuer") && actual.contains(", …)"), "{actual}");
}
