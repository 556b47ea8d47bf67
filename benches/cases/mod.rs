//! The cases that both benchmarks run: what a request costs on its way through the rooms,
//! step by step and as whole decisions. Owns their inputs, which are the same in every run,
//! and sees the rooms through their public face alone.

mod world;

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use portcullis::pipeline::{BackgroundTask, Gateway, Head, Outcome};
use portcullis_policy::{Policy, Table, Target};
use portcullis_token::{
    self as token, Algorithm, ClaimNames, SignatureOutcome, TokenPolicy, UnixMillis, UnverifiedToken,
};

use world::{Vectors, World};

/// One thing that is measured.
pub(crate) trait Case {
    /// Makes the inputs of so many runs, where a run uses one up. Not measured.
    fn prepare(&mut self, _runs: usize) {}

    /// Does it once.
    fn run(&mut self);
}

impl<F: FnMut()> Case for F {
    fn run(&mut self) {
        self();
    }
}

type Make = fn() -> Box<dyn Case>;

/// By name. A case is made only when it is run: ten thousand routes take their time.
pub(crate) const CASES: [(&str, Make); 10] = [
    ("token-parse", token_parse),
    ("token-admit", token_admit),
    ("route-find-10", || route_find(10)),
    ("route-find-10000", || route_find(10_000)),
    ("target-parse", target_parse),
    // The assertion is the gate's own affair. A public route is the shortest way to one:
    // nothing is verified, and most of what is left is the signing.
    ("handle-public", || handle("/api/v1/auth/public-key", None, (200, None))),
    ("handle-remembered", || handle("/api/v1/auth/me", Some(GOOD), (200, None))),
    ("handle-malformed", || handle("/api/v1/auth/me", Some("not.a-token"), (401, Some("token_malformed")))),
    ("handle-unknown-key", || handle("/api/v1/auth/me", Some("kid unknown"), (401, Some("token_key_unknown")))),
    ("handle-unknown", || handle("/api/v1/nowhere", Some(GOOD), (404, Some("route_unknown")))),
];

/// The vector's name; its token is put in its place.
const GOOD: &str = "a good token";

fn token_parse() -> Box<dyn Case> {
    let good = Vectors::load().token(GOOD);
    assert!(token::parse(&good).is_ok());
    Box::new(move || {
        let _ = black_box(token::parse(black_box(&good)));
    })
}

/// To admit a token is to use it up.
struct Admission {
    parsed: UnverifiedToken<'static>,
    policy: TokenPolicy,
    now: UnixMillis,
    stock: Vec<UnverifiedToken<'static>>,
}

impl Case for Admission {
    fn prepare(&mut self, runs: usize) {
        self.stock.extend(std::iter::repeat_n(&self.parsed, runs).cloned());
    }

    fn run(&mut self) {
        let parsed = self.stock.pop().unwrap();
        let _ = black_box(parsed.admit(SignatureOutcome::Valid, black_box(&self.policy), self.now));
    }
}

fn token_admit() -> Box<dyn Case> {
    let vectors = Vectors::load();
    let parsed = token::parse(Box::leak(vectors.token(GOOD).into_boxed_str())).unwrap();
    // As the shipped policy has it for access tokens.
    let policy = TokenPolicy {
        issuer: "auth-service".to_owned(),
        tenants: vec![],
        audience: vec!["api".to_owned()],
        audience_claim: vec!["aud".to_owned()],
        algorithms: vec![Algorithm::Rs256],
        types: vec!["at+jwt".to_owned()],
        token_type: Some("access".to_owned()),
        claims: ClaimNames::default(),
        require: vec![],
        kept: vec![],
        asserted: Vec::new(),
        leeway_s: 30,
        max_lifetime_s: 900,
    };
    let now = UnixMillis::from_secs(vectors.now);
    assert!(parsed.clone().admit(SignatureOutcome::Valid, &policy, now).is_ok());
    Box::new(Admission { parsed, policy, now, stock: vec![] })
}

/// The shipped policy with so many routes in place of its own.
fn policy_of(routes: usize) -> Policy {
    let mut policy = portcullis_policy::check(SHIPPED).unwrap();
    let model = policy.routes[0].clone();
    policy.routes = (0..routes)
        .map(|index| {
            let mut route = model.clone();
            route.path = format!("/api/v1/service-{}/{}/{{id}}", index / 10, COLLECTIONS[index % 10]);
            route
        })
        .collect();
    policy
}

const SHIPPED: &str = include_str!("../../gateway.toml");

const COLLECTIONS: [&str; 10] =
    ["users", "orders", "carts", "items", "prices", "invoices", "payments", "returns", "reviews", "stocks"];

fn route_find(routes: usize) -> Box<dyn Case> {
    let table = Table::build(&policy_of(routes)).unwrap();
    // From all over the table, for its branches are not of one length.
    let targets: Vec<Target> = (0..LOOKED_UP)
        .map(|index| {
            let index = index * routes / LOOKED_UP;
            let path = format!("/api/v1/service-{}/{}/0190b5a2-8c4e", index / 10, COLLECTIONS[index % 10]);
            Target::parse(&path).unwrap()
        })
        .collect();
    assert!(targets.iter().all(|target| table.find("GET", target).is_ok()));
    let mut next = 0;
    Box::new(move || {
        let _ = black_box(table.find("GET", black_box(&targets[next])));
        next = (next + 1) % LOOKED_UP;
    })
}

const LOOKED_UP: usize = 100;

fn target_parse() -> Box<dyn Case> {
    let raw = "/api/v1/users/%30190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f/orders?from=2026-01-01&name=O'Hara&page=2";
    assert!(Target::parse(raw).is_ok());
    Box::new(move || {
        let _ = black_box(Target::parse(black_box(raw)));
    })
}

/// A GET as a browser sends it, from head to answer, at a gate that has its keys, its copy of
/// the revocations and the token in memory.
fn handle(path: &str, bearer: Option<&str>, expected: (u16, Option<&'static str>)) -> Box<dyn Case> {
    let vectors = Vectors::load();
    let world = World::new(&vectors);
    let policy = portcullis_policy::check(SHIPPED).unwrap();
    let gate = Gateway::new(&serde_json::to_string(&policy).unwrap(), world::setting).unwrap();
    let mut headers = vec![
        ("accept".to_owned(), "application/json".to_owned()),
        ("accept-encoding".to_owned(), "gzip, br".to_owned()),
        ("accept-language".to_owned(), "en-GB,en;q=0.5".to_owned()),
        ("cf-connecting-ip".to_owned(), "192.0.2.7".to_owned()),
        ("user-agent".to_owned(), "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
    ];
    if let Some(bearer) = bearer {
        let token = if bearer.contains('.') { bearer.to_owned() } else { vectors.token(bearer) };
        headers.push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    let head = Head::new("GET".to_owned(), &format!("https://edge.example{path}"), headers);
    // Fills the memories.
    for _ in 0..3 {
        decide(&gate, &head, &world);
    }
    let last = now(gate.handle(&head, &world));
    // The success is none of those that are logged.
    let verdict = last.record.map_or((200, None), |record| (record.status, record.code));
    assert_eq!((verdict, matches!(last.outcome, Outcome::Forwarded { .. })), (expected, expected.0 == 200));
    // A refused token is counted behind the answer; nothing else has anything left to do.
    let tasks = world.tasks.take();
    assert_eq!(tasks.len(), usize::from(expected.0 == 401), "{tasks:?}");
    Box::new(move || decide(&gate, black_box(&head), &world))
}

/// A whole decision with its lines of the log, and with what it leaves to do, without which a refusal would find
/// the last one still waiting. Metrics are not sent, because one flush is for all requests of some seconds.
fn decide(gate: &Gateway, head: &Head, world: &World) {
    let handled = black_box(now(gate.handle(head, world)));
    if let Some(record) = handled.record {
        black_box((record.to_json(), record.audit_event()));
    }
    for task in world.tasks.take() {
        if task != BackgroundTask::Flush {
            now(gate.run(task, world));
        }
    }
}

/// What a future gives that never waits: an executor would be measured, too.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the world has nothing to wait for"),
    }
}
