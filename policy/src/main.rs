//! The policy's command line, for `npm run check` and `npm run policy:push`: checks
//! `gateway.toml` with the worker's own code, prints the effective table, answers who may
//! call what, and gives the JSON that the worker reads.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use portcullis::{
    config::{self, Access, EncodedPath, Policy, RequireRule, RevocationCheck, Variants},
    route::{BadTarget, Miss, Principal, Table, Target, permits},
};
use serde_json::Value;

/// Checks a gateway's policy and shows what it amounts to.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The policy.
    #[arg(long, default_value = "gateway.toml", global = true)]
    file: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the file and print the effective table.
    Table,
    /// Say who may call a path, and whether somebody with these rights may.
    May {
        /// Method, in upper case.
        method: String,
        /// Path, as a client sends it.
        path: String,
        #[command(flatten)]
        caller: Caller,
    },
    /// Check the file and print the JSON that the worker reads.
    Compile,
}

/// Somebody who calls.
#[derive(Debug, clap::Args)]
struct Caller {
    /// User id.
    #[arg(long)]
    user: Option<String>,
    /// Roles, with commas between.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Scopes, with commas between.
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    /// A claim, as name=value; names of nested claims with / between. Repeat for more.
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// Name of the issuer of the token.
    #[arg(long)]
    issuer: Option<String>,
}

impl Caller {
    /// Whether anything is said of a caller: a token, then.
    fn is_somebody(&self) -> bool {
        self.user.is_some()
            || self.issuer.is_some()
            || !(self.roles.is_empty() && self.scopes.is_empty() && self.claims.is_empty())
    }
}

/// The policy has mistakes, or the answer is no.
const EXIT_NO: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let policy = match read(&cli.file) {
        Ok(policy) => policy,
        Err(lines) => {
            for line in lines {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            return ExitCode::from(EXIT_NO);
        }
    };
    match cli.command {
        Command::Table => {
            print_table(&policy);
            ExitCode::SUCCESS
        }
        Command::May { method, path, caller } => may(&policy, &method, &path, &caller),
        Command::Compile => match serde_json::to_string(&policy) {
            Ok(json) => {
                say(&json);
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::from(EXIT_NO),
        },
    }
}

fn read(file: &Path) -> Result<Policy, Vec<String>> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| vec![format!("{name} cannot be read: {error}")])?;
    config::check(&text).map_err(|mistakes| mistakes.iter().map(|mistake| format!("{name}:{mistake}")).collect())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A rule in words.
fn words(access: &Access) -> String {
    let list = |names: &[String]| names.join(" or ");
    let many = |rules: &[Access], between: &str| {
        let inner: Vec<String> = rules
            .iter()
            .map(|rule| match rule {
                Access::Any(_) | Access::All(_) => format!("({})", words(rule)),
                Access::Public
                | Access::User
                | Access::Roles(_)
                | Access::Scopes(_)
                | Access::Claim(_)
                | Access::Owner(_) => words(rule),
            })
            .collect();
        inner.join(between)
    };
    match access {
        Access::Public => "anybody".to_owned(),
        Access::User => "any user".to_owned(),
        Access::Roles(roles) => format!("role {}", list(roles)),
        Access::Scopes(scopes) => format!("scope {}", list(scopes)),
        Access::Owner(name) => format!("the user {{{name}}}"),
        Access::Claim(require) => {
            let name = require.claim.join("/");
            match &require.rule {
                RequireRule::Present => format!("claim {name}"),
                RequireRule::Equals(value) => format!("claim {name} = {value}"),
                RequireRule::OneOf(values) => {
                    let values: Vec<String> = values.iter().map(Value::to_string).collect();
                    format!("claim {name} = {}", values.join(" or "))
                }
            }
        }
        Access::Any(rules) => many(rules, ", or "),
        Access::All(rules) => many(rules, ", and "),
    }
}

fn print_table(policy: &Policy) {
    let mut rows = vec![["METHODS", "PATH", "WHO MAY ENTER", "UPSTREAM", "LIMITS"].map(str::to_owned)];
    let mut routes: Vec<_> = policy.routes.iter().collect();
    routes.sort_by(|one, other| one.path.cmp(&other.path));
    for route in routes {
        let mut who = words(&route.access);
        if let Some(issuers) = &route.issuers {
            who = format!("{who} (of {})", issuers.join(" or "));
        }
        let timeout = policy.upstreams.iter().find(|upstream| upstream.name == route.upstream);
        let mut limits = vec![
            timeout.map_or_else(String::new, |upstream| format!("{} ms", upstream.timeout_ms)),
            bytes(route.max_body_bytes),
        ];
        limits.extend(route.limits.iter().map(|name| format!("rate {name}")));
        if route.revocation == RevocationCheck::Strict {
            limits.push("strict revocation".to_owned());
        }
        if route.token_cookie {
            limits.push("token in a cookie".to_owned());
        }
        if route.encoded_path == EncodedPath::Forward {
            limits.push("encoded paths".to_owned());
        }
        if timeout.is_some_and(|upstream| upstream.maintenance_s.is_some()) {
            limits.push("under maintenance".to_owned());
        }
        let upstream = match &route.rewrite {
            Some((from, to)) => format!("{} ({from} → {})", route.upstream, if to.is_empty() { "/" } else { to }),
            None => route.upstream.clone(),
        };
        rows.push([route.methods.join(","), route.path.clone(), who, upstream, limits.join(", ")]);
    }
    let widths: Vec<usize> = (0..5)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        say(cells.join("  ").trim_end());
    }
    say(&format!(
        "\n{}, {}, {}; any other path is 404.",
        count(policy.routes.len(), "route"),
        count(policy.upstreams.len(), "upstream"),
        count(policy.issuers.len(), "issuer")
    ));
    print_overlaps(policy);
    if policy.issuers.len() > 1 {
        for route in policy.routes.iter().filter(|route| route.issuers.is_none() && route.access == Access::User) {
            say(&format!(
                "note: {} takes tokens of every issuer; issuers = [\"…\"] names those that may enter",
                route.path
            ));
        }
    }
}

/// Says which route wins where several match one path.
fn print_overlaps(policy: &Policy) {
    let paths: BTreeSet<&str> = policy.routes.iter().map(|route| route.path.as_str()).collect();
    let mut lines = Vec::new();
    for winner in &paths {
        let others: Vec<&str> = paths.iter().copied().filter(|other| precedes(winner, other)).collect();
        if !others.is_empty() {
            lines.push(format!("  {winner} wins over {}", others.join(", ")));
        }
    }
    if lines.is_empty() {
        return;
    }
    say("\nPaths that overlap (the more specific one wins, whatever the method):");
    for line in lines {
        say(&line);
    }
    for route in &policy.routes {
        match &route.variants {
            Variants::Check => {}
            Variants::Refuse => {
                say(&format!("  {}: its variants in case, trailing slash or escapes are 400", route.path));
            }
            Variants::Allow(reason) => say(&format!("  {}: its variants are allowed: {reason}", route.path)),
        }
    }
}

/// Whether a pattern matches a path.
fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        match segments.next() {
            Some(_) if wanted.starts_with("{*") => return true,
            Some(segment) if wanted == segment || (wanted.starts_with('{') && !segment.is_empty()) => {}
            Some(_) | None => return false,
        }
    }
    segments.next().is_none()
}

/// Whether some path matches both patterns and goes to `winner`: it has a fixed segment at
/// the first place where they differ.
fn precedes(winner: &str, other: &str) -> bool {
    let (mut ours, mut theirs) = (winner.split('/'), other.split('/'));
    let mut wins = false;
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return wins,
            (Some(our), Some(their)) => (our, their),
            (None, Some(_)) | (Some(_), None) => return false,
        };
        let (is_ours_open, is_theirs_open) = (our.starts_with('{'), their.starts_with('{'));
        if their.starts_with("{*") {
            // The rest, which our further segments are.
            return (wins || !is_ours_open) && !our.is_empty();
        }
        if our.starts_with("{*") {
            return wins;
        }
        match (is_ours_open, is_theirs_open) {
            (false, false) if our != their => return false,
            (false, true) => wins = true,
            (true, false) if !wins => return false,
            (true | false, _) => {}
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn bytes(count: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match count.checked_rem(MIB) {
        Some(0) if count > 0 => format!("{} MiB", count / MIB),
        _ => format!("{count} B"),
    }
}

fn may(policy: &Policy, method: &str, path: &str, caller: &Caller) -> ExitCode {
    let no = |text: String| {
        say(&text);
        ExitCode::from(EXIT_NO)
    };
    let target = match Target::parse(path) {
        Ok(target) => target,
        Err(BadTarget::TooLong) => return no("414: the path is too long".to_owned()),
        Err(BadTarget::Ambiguous) => return no("400: the path has more than one reading".to_owned()),
    };
    if config::is_own_path(target.path()) {
        say("the gateway's own; see the README");
        return ExitCode::SUCCESS;
    }
    let Ok(table) = Table::build(policy) else { return no("two routes collide".to_owned()) };
    let found = match table.find(method, &target) {
        Ok(found) => found,
        Err(Miss::Ambiguous) => {
            return no("400: services read this path differently; encoded_path = \"forward\" at the route lets it through, and variants = \"refuse\" at another one may refuse it".to_owned());
        }
        Err(Miss::Path) => return no(format!("404: no route names {}", target.path())),
        Err(Miss::Method { allow, .. }) => return no(format!("405: {} takes {allow}", target.path())),
    };
    let Some(route) = policy.routes.get(found.route) else { return no("404".to_owned()) };
    say(&format!(
        "{method} {} is {} at {}; may enter: {}",
        target.path(),
        route.path,
        route.upstream,
        words(&route.access)
    ));
    let others: BTreeSet<&str> =
        policy.routes.iter().map(|route| route.path.as_str()).filter(|other| precedes(&route.path, other)).collect();
    let others: Vec<&str> = others.into_iter().filter(|other| matches(other, target.path())).collect();
    if !others.is_empty() {
        say(&format!("({} wins over {}, which match, too)", route.path, others.join(", ")));
    }
    if route.access == Access::Public {
        return ExitCode::SUCCESS;
    }
    if !caller.is_somebody() {
        return no("401 without a token; --user, --roles, --scopes, --claim and --issuer say who calls".to_owned());
    }
    let wrong_issuer = match (&route.issuers, &caller.issuer) {
        (Some(issuers), Some(issuer)) => !issuers.contains(issuer),
        (Some(issuers), None) => {
            say(&format!("(as a token of {})", issuers.join(" or ")));
            false
        }
        (None, _) => false,
    };
    let claims: Vec<(Vec<String>, Value)> = caller
        .claims
        .iter()
        .filter_map(|text| text.split_once('='))
        .map(|(name, value)| {
            let path = name.split('/').map(str::to_owned).collect();
            (path, serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)))
        })
        .collect();
    let principal = Principal {
        user_id: caller.user.as_deref().unwrap_or_default(),
        roles: &caller.roles,
        scopes: &caller.scopes,
        claims: &claims,
    };
    if wrong_issuer || !permits(&route.access, principal, &found.params) {
        return no("403: not this caller".to_owned());
    }
    say("yes");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_segment_wins_where_two_paths_first_differ() {
        for (one, other, expected) in [
            ("/users/me", "/users/{id}", true),
            ("/users/{id}", "/users/me", false),
            ("/app/admin", "/app/{*rest}", true),
            ("/app/admin/{*rest}", "/app/{*rest}", true),
            ("/app/{*rest}", "/app/admin/{*rest}", false),
            ("/app/{*rest}", "/{*rest}", true),
            ("/app", "/app/{*rest}", false),
            ("/", "/{*rest}", false),
            ("/{a}/x", "/b/{c}", false),
            ("/b/{c}", "/{a}/x", true),
            ("/b/y", "/{a}/x", false),
            ("/users/me", "/users/{id}/posts", false),
            ("/a", "/b", false),
            ("/{x}/a", "/{x}/{y}", true),
        ] {
            assert_eq!(precedes(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_pattern_matches_the_paths_that_it_describes() {
        for (pattern, path, expected) in [
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/7/x", false),
            ("/app/{*rest}", "/app/a/b", true),
            ("/app/{*rest}", "/app", false),
            ("/a", "/b", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
