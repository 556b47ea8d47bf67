//! Access rules: who may enter a route.

use std::{cell::Cell, net::IpAddr};

use portcullis_token::{
    ClaimPath, ClaimRule, UnixMillis, ValueDeserializer, deserialize_claim_path, deserialize_strict,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::{network::Network, sorted, url::host_and_port};

/// Who may enter a route. A rule is a word, a table with one key, a [`ClaimRule`] or a [`RequestClaim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum Access {
    /// Everyone; no token is looked at.
    #[serde(skip_deserializing)]
    Public,
    /// Any verified token.
    #[serde(skip_deserializing)]
    User,
    /// Tokens with at least one of these roles.
    Roles(Vec<String>),
    /// Tokens with at least one of these scopes.
    Scopes(Vec<String>),
    /// Tokens with a claim that meets this rule.
    #[serde(skip)]
    Claim(ClaimRule),
    /// Tokens with a claim that equals a part of the request.
    #[serde(skip)]
    RequestClaim(RequestClaim),
    /// Tokens of the user whose id is the value of this path parameter.
    Owner(String),
    /// Tokens of a client in one of these countries (ISO 3166-1 alpha-2), as the platform says.
    Country(Vec<String>),
    /// Tokens of a client with an address in one of these networks.
    Network(Vec<Network>),
    /// Tokens of a user who logged in at most so many seconds ago (`auth_time`).
    MaxAge(u64),
    /// Tokens of a login of one of these classes (`acr`).
    Acr(Vec<String>),
    /// Tokens that at least one of these rules lets in.
    Any(Vec<Access>),
    /// Tokens that all of these rules let in.
    All(Vec<Access>),
}

/// A rule on a claim whose value is a part of the request: that the claim is a string, and equal to each part
/// that is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestClaim {
    /// The claim.
    #[serde(deserialize_with = "deserialize_claim_path")]
    pub claim: ClaimPath,
    /// The path parameter with its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals_path: Option<String>,
    /// The host, with a placeholder for the label that is its value: `{tenant}.api.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals_host: Option<String>,
}

/// The claims of [`Access::MaxAge`] and [`Access::Acr`] (OpenID Connect Core, section 2; RFC 9470, section 6.1).
pub(crate) const AUTH_TIME: &str = "auth_time";
pub(crate) const ACR: &str = "acr";

/// A path's parameters by name, percent-decoded once.
pub type Params = Vec<(String, String)>;

/// What the rules know of a caller with a verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// User id.
    pub user_id: &'a str,
    /// Roles.
    pub roles: &'a [String],
    /// Scopes.
    pub scopes: &'a [String],
    /// The claims that rules ask for.
    pub claims: &'a [(ClaimPath, Value)],
}

impl<'a> Principal<'a> {
    fn claim(&self, path: &[String]) -> Option<&'a Value> {
        self.claims.iter().find(|(known, _)| known == path).map(|(_, value)| value)
    }

    fn claim_named(&self, name: &str) -> Option<&'a Value> {
        self.claims.iter().find(|(known, _)| matches!(known.as_slice(), [only] if only == name)).map(|(_, value)| value)
    }
}

/// What the rules know of a request besides its caller.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// Parameters of the path.
    pub params: &'a Params,
    /// Host, and port if any, as the client wrote it.
    pub host: &'a str,
    /// The client's address, from the platform.
    pub address: Option<IpAddr>,
    /// Returns the client's country, from the platform. Called only if a rule asks for it.
    pub country: &'a dyn Fn() -> Option<String>,
    /// Now.
    pub now: UnixMillis,
    /// Seconds of clock difference tolerated between the issuer and the gateway.
    pub leeway_s: u64,
}

impl Circumstances<'_> {
    /// Whether a path parameter has this value.
    ///
    /// These characters were escaped in the path, or the slash belongs to the rest. A service that decodes the
    /// path before it splits it, or removes parameters, would take the part before them for the value.
    fn has_param(&self, name: &str, expected: &str) -> bool {
        !expected.contains(['/', ';', '?', '#'])
            && self.params.iter().any(|(param, value)| param == name && value == expected)
    }

    /// Whether the host's label at the placeholder of a pattern is this one. Hosts have no case, so only a lower-case
    /// label can be equal: two tenants whose names differ in case would share a host.
    fn has_host(&self, pattern: &str, expected: &str) -> bool {
        let host = self.host.to_ascii_lowercase();
        let label = pattern.split_once('}').zip(host_and_port(&host).ok());
        let label = label.and_then(|((_, suffix), (host, _))| host.strip_suffix(suffix));
        label.is_some_and(|label| label == expected && !label.is_empty() && !label.contains('.'))
    }

    /// Whether the user logged in at most `max_age_s` ago. A login in the future, beyond the leeway, proves nothing.
    fn is_recent(&self, auth_time: Option<&Value>, max_age_s: u64) -> bool {
        let Some(at) = auth_time.and_then(portcullis_token::date) else { return false };
        at <= self.now.plus(self.leeway_s.saturating_mul(1000)) && self.now.since(at) <= max_age_s.saturating_mul(1000)
    }
}

/// Whether `rule` lets `principal` in with a request.
///
/// In doubt it does not: an owner rule without its parameter, an empty list, and a country or an address that is not
/// known let no one in.
pub(crate) fn permits(rule: &Access, principal: Principal<'_>, request: &Circumstances<'_>) -> bool {
    match rule {
        Access::Public | Access::User => true,
        Access::Roles(roles) => roles.iter().any(|role| principal.roles.contains(role)),
        Access::Scopes(scopes) => scopes.iter().any(|scope| principal.scopes.contains(scope)),
        Access::Claim(rule) => rule.is_met_by(principal.claim(&rule.claim)),
        Access::RequestClaim(RequestClaim { claim, equals_path, equals_host }) => {
            principal.claim(claim).and_then(Value::as_str).is_some_and(|value| {
                (equals_path.is_some() || equals_host.is_some())
                    && equals_path.as_ref().is_none_or(|name| request.has_param(name, value))
                    && equals_host.as_ref().is_none_or(|pattern| request.has_host(pattern, value))
            })
        }
        Access::Owner(name) => request.has_param(name, principal.user_id),
        Access::Country(countries) => (request.country)().is_some_and(|country| countries.contains(&country)),
        Access::Network(networks) => {
            request.address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
        }
        Access::MaxAge(max_age_s) => request.is_recent(principal.claim_named(AUTH_TIME), *max_age_s),
        Access::Acr(classes) => {
            let class = principal.claim_named(ACR).and_then(Value::as_str);
            class.is_some_and(|class| classes.iter().any(|known| known == class))
        }
        Access::Any(rules) => rules.iter().any(|rule| permits(rule, principal, request)),
        Access::All(rules) => !rules.is_empty() && rules.iter().all(|rule| permits(rule, principal, request)),
    }
}

/// The login that a token would need (RFC 9470, section 3), and its scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepUp {
    /// Seconds since the login, at most.
    pub max_age_s: Option<u64>,
    /// Classes of the login, of which it needs one, with spaces between; empty for any.
    pub acr_values: String,
    /// Scopes, with spaces between.
    pub scopes: String,
}

/// What a token needs for a rule.
#[derive(Default)]
struct Needs<'a> {
    /// In order, each once.
    scopes: Vec<&'a str>,
    max_age_s: Option<u64>,
    /// Classes of which its login needs one.
    acr: Option<Vec<&'a str>>,
}

impl Needs<'_> {
    fn is_step_up(&self) -> bool {
        self.max_age_s.is_some() || self.acr.is_some()
    }
}

fn join<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    Vec::from_iter(names).join(" ")
}

impl Access {
    /// Whether the rule asks for more than a token: for rights, or for one user. Their meaning is
    /// the issuer's. Countries and networks are facts of the platform.
    pub(crate) fn names_rights(&self) -> bool {
        match self {
            Self::Public | Self::User | Self::Country(_) | Self::Network(_) => false,
            Self::Roles(_)
            | Self::Scopes(_)
            | Self::Claim(_)
            | Self::RequestClaim(_)
            | Self::Owner(_)
            | Self::MaxAge(_)
            | Self::Acr(_) => true,
            Self::Any(rules) | Self::All(rules) => rules.iter().any(Self::names_rights),
        }
    }

    /// Calls `see` with each rule that is not a list of rules.
    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Self)) {
        if let Self::Any(rules) | Self::All(rules) = self {
            rules.iter().for_each(|rule| rule.visit(see));
        } else {
            see(self);
        }
    }

    fn has(&self, is_wanted: fn(&Self) -> bool) -> bool {
        let mut is_found = false;
        self.visit(&mut |rule| is_found |= is_wanted(rule));
        is_found
    }

    /// Returns whether the rule asks for a recent login or a class of login, so that its refusals may ask clients for
    /// another one.
    pub fn may_step_up(&self) -> bool {
        self.has(|rule| matches!(rule, Self::MaxAge(_) | Self::Acr(_)))
    }

    /// Returns whether the rule compares a claim with the request's host.
    pub(crate) fn names_host(&self) -> bool {
        self.has(|rule| matches!(rule, Self::RequestClaim(RequestClaim { equals_host: Some(_), .. })))
    }

    /// Adds each scope that the rule names.
    pub(crate) fn add_scopes<'a>(&'a self, scopes: &mut Vec<&'a str>) {
        self.visit(&mut |rule| {
            if let Self::Scopes(names) = rule {
                names.iter().for_each(|name| sorted::insert(scopes, name));
            }
        });
    }

    /// Returns the scopes that a token needs for this rule, with spaces between (RFC 6749, section 3.3): the
    /// fewest that suffice and, of equal ones, the first. A `caller` that is not known yet counts as one who
    /// meets all other rules. Empty if no scope is needed, or if scopes do not suffice.
    pub fn needed_scopes(&self, caller: Option<(Principal<'_>, &Circumstances<'_>)>) -> String {
        let needs = self.needs(caller).filter(|needs| !needs.is_step_up());
        join(needs.unwrap_or_default().scopes)
    }

    /// Returns the login that suffices for a caller who is refused, with the scopes that its token would need as well.
    /// `None` if scopes alone suffice, or if no login does.
    pub(crate) fn step_up(&self, caller: (Principal<'_>, &Circumstances<'_>)) -> Option<StepUp> {
        let Needs { scopes, max_age_s, acr } = self.needs(Some(caller)).filter(Needs::is_step_up)?;
        Some(StepUp { max_age_s, acr_values: join(acr.unwrap_or_default()), scopes: join(scopes) })
    }

    /// Returns what a token needs: of alternatives, one without another login and with the fewest scopes.
    fn needs(&self, caller: Option<(Principal<'_>, &Circumstances<'_>)>) -> Option<Needs<'_>> {
        let is_met = || caller.is_none_or(|(principal, request)| permits(self, principal, request));
        match self {
            Self::Scopes(names) => {
                let has = |name: &&String| caller.is_some_and(|(principal, _)| principal.scopes.contains(name));
                let name = names.iter().find(has).or(names.first())?;
                Some(Needs { scopes: vec![name.as_str()], ..Needs::default() })
            }
            Self::MaxAge(seconds) => Some(Needs { max_age_s: (!is_met()).then_some(*seconds), ..Needs::default() }),
            Self::Acr(classes) => {
                let classes = (!is_met()).then(|| classes.iter().map(String::as_str).collect());
                Some(Needs { acr: classes, ..Needs::default() })
            }
            Self::Any(rules) => {
                let needs = rules.iter().filter_map(|rule| rule.needs(caller));
                needs.min_by_key(|needs| (needs.is_step_up(), needs.scopes.len()))
            }
            Self::All(rules) => rules.iter().try_fold(Needs::default(), |mut all, rule| {
                let needs = rule.needs(caller)?;
                needs.scopes.into_iter().for_each(|scope| sorted::insert(&mut all.scopes, scope));
                all.max_age_s = all.max_age_s.into_iter().chain(needs.max_age_s).min();
                all.acr = match (all.acr, needs.acr) {
                    (Some(mut one), Some(other)) => {
                        // One login has one class.
                        one.retain(|class| other.contains(class));
                        (!one.is_empty()).then_some(Some(one))?
                    }
                    (one, other) => one.or(other),
                };
                Some(all)
            }),
            Self::Public
            | Self::User
            | Self::Roles(_)
            | Self::Claim(_)
            | Self::RequestClaim(_)
            | Self::Owner(_)
            | Self::Country(_)
            | Self::Network(_) => is_met().then(Needs::default),
        }
    }

    /// Whether every caller that this rule lets in is let in by `other`, too, which has no rule on owners.
    #[cfg(feature = "toml")]
    pub fn is_as_strict_as(&self, other: &Self) -> bool {
        self.implies(other, &|_, _| false, &Cell::new(crate::limits::ACCESS_COMPARISONS))
    }

    /// Whether every caller that this rule lets in is let in by `other`, too. `is_same_owner` tells
    /// whether a parameter of this rule's path and one of the other's have the same value. After `left`
    /// comparisons the answer is no, which reports the two rules and hides none.
    pub(crate) fn implies(&self, other: &Self, is_same_owner: &dyn Fn(&str, &str) -> bool, left: &Cell<u32>) -> bool {
        let implies = |one: &Self, other: &Self| one.implies(other, is_same_owner, left);
        let Some(rest) = left.get().checked_sub(1) else { return false };
        left.set(rest);
        match (self, other) {
            (_, Self::Public) => true,
            (Self::Public, _) => false,
            (_, Self::User) => true,
            (_, Self::All(rules)) => rules.iter().all(|rule| implies(self, rule)),
            (Self::Any(rules), _) => rules.iter().all(|rule| implies(rule, other)),
            (_, Self::Any(rules)) if rules.iter().any(|rule| implies(self, rule)) => true,
            (Self::All(rules), _) => rules.iter().any(|rule| implies(rule, other)),
            (Self::Roles(fewer), Self::Roles(more))
            | (Self::Scopes(fewer), Self::Scopes(more))
            | (Self::Country(fewer), Self::Country(more))
            | (Self::Acr(fewer), Self::Acr(more)) => fewer.iter().all(|name| more.contains(name)),
            (Self::Network(fewer), Self::Network(more)) => {
                fewer.iter().all(|network| more.iter().any(|wider| network.is_within(wider)))
            }
            (Self::MaxAge(shorter), Self::MaxAge(longer)) => shorter <= longer,
            (Self::Claim(one), Self::Claim(other)) if one.claim == other.claim => {
                match (values_of(one), values_of(other)) {
                    (_, None) => true,
                    (Some(fewer), Some(more)) => fewer.iter().all(|value| more.contains(value)),
                    (None, Some(_)) => false,
                }
            }
            (Self::RequestClaim(one), Self::RequestClaim(other)) if one.claim == other.claim => {
                let is_same = |name: &String| one.equals_path.as_ref().is_some_and(|own| is_same_owner(own, name));
                other.equals_path.as_ref().is_none_or(is_same)
                    && (other.equals_host.is_none() || other.equals_host == one.equals_host)
            }
            (Self::Owner(one), Self::Owner(other)) => is_same_owner(one, other),
            _ => false,
        }
    }
}

/// The values that a claim may have; `None` stands for any.
pub(crate) fn values_of(rule: &ClaimRule) -> Option<&[Value]> {
    rule.equals.as_ref().map(std::slice::from_ref).or(rule.one_of.as_deref())
}

const FORMS: &str = "\"public\", \"user\", { roles = [\"admin\"] }, { scopes = [\"read\"] }, \
                     { owner = \"id\" }, { claim = \"tenant\", equals = \"shop\" }, { network = [\"192.0.2.0/24\"] }, \
                     { country = [\"DE\"] }, { max_age = 300 }, { acr = [\"mfa\"] }, { any = [...] } or { all = [...] }";

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Claim(rule) = self {
            return rule.serialize(serializer);
        }
        if let Self::RequestClaim(rule) = self { rule.serialize(serializer) } else { Self::serialize(self, serializer) }
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = deserialize_strict(deserializer)?;
        let value = ValueDeserializer::new(&written);
        let access = match (written.as_str(), written.as_object()) {
            (Some("public"), _) => return Ok(Self::Public),
            (Some("user"), _) => return Ok(Self::User),
            (Some(other), _) => return Err(D::Error::custom(format!("access {other:?} is not known; write {FORMS}"))),
            (None, Some(table)) if ["equals_path", "equals_host"].iter().any(|key| table.contains_key(*key)) => {
                RequestClaim::deserialize(value).map(Self::RequestClaim)
            }
            (None, Some(table)) if table.contains_key("claim") => ClaimRule::deserialize(value).map(Self::Claim),
            (None, Some(table)) if table.len() == 1 => Self::deserialize(value),
            (None, _) => return Err(D::Error::custom(format!("access takes one key; write {FORMS}"))),
        };
        access.map_err(D::Error::custom)
    }
}
