// The environments of wrangler.toml, and what must hold before one is deployed. Wrangler inherits routes and triggers
// from the top level, but no binding and no variable.

import { usageError } from "./arguments.js";
import { DEVELOPMENT_ISSUER } from "./development-issuer.js";
import { isLoopback, suffixOf, upstreamVariable } from "./policy-document.js";

/**
 * @import { Option } from "./arguments.js"
 * @import { PolicyDocument } from "./policy-document.js"
 * @typedef {{ binding: string, id?: string }} Store
 * @typedef {{ name: string, class_name: string, script_name?: string }} ObjectBinding
 * @typedef {{ name: string, namespace_id: string, simple: { limit: number, period: number } }} RateLimit
 * @typedef {string | { pattern: string }} WorkerRoute
 * @typedef {object} Section one environment, or the top level
 * @property {string} [name]
 * @property {Store[]} [kv_namespaces]
 * @property {{ bindings?: ObjectBinding[] }} [durable_objects]
 * @property {RateLimit[]} [ratelimits]
 * @property {{ binding: string }} [version_metadata]
 * @property {Record<string, string>} [vars]
 * @property {WorkerRoute[]} [routes]
 * @property {WorkerRoute} [route]
 * @property {boolean} [workers_dev]
 * @typedef {Section & { env?: Record<string, Section> }} Wrangler
 */

const FILE = "wrangler.toml";

// An id that no account has, to be replaced.
const PLACEHOLDER = /^(?:0{24}|[0-]*$)/;

/** @param {string | undefined} id */
const isPlaceholder = (id = "") => PLACEHOLDER.test(id);

/**
 * The option of every script that works on a deployment.
 * @type {Record<string, Option>}
 */
export const ENVIRONMENT_OPTION = { env: { type: "string" } };

/**
 * Returns the section of an environment.
 * @param {Wrangler} wrangler
 * @param {string} name
 */
export function environmentOf(wrangler, name) {
  const { env = {} } = wrangler;
  if (Object.hasOwn(env, name)) return env[name];
  const names = Object.keys(env).join(", ");
  throw usageError(`--env: ${JSON.stringify(name)} is not in ${FILE}; its environments are: ${names || "none"}.`);
}

/**
 * Returns the KV namespace of an environment, which must be a real one.
 * @param {Wrangler} wrangler
 * @param {string} name
 */
export function storeOf(wrangler, name) {
  const store = environmentOf(wrangler, name).kv_namespaces?.find(({ binding }) => binding === "KEYS");
  if (store !== undefined && !isPlaceholder(store.id)) return store;
  throw usageError(`${FILE}: ${name} has no KV namespace KEYS yet; run: npx wrangler kv namespace create KEYS`);
}

/** @param {Section} section */
function bindingsOf({ kv_namespaces = [], durable_objects = {}, ratelimits = [], version_metadata }) {
  return [
    ...kv_namespaces.map(({ binding }) => ["kv_namespaces", binding]),
    ...(durable_objects.bindings ?? []).map(({ name }) => ["durable_objects.bindings", name]),
    ...ratelimits.map(({ name }) => ["ratelimits", name]),
    ...(version_metadata === undefined ? [] : [["version_metadata", version_metadata.binding]]),
  ];
}

/** @param {Section} section */
const routesOf = ({ routes, route }) =>
  [routes ?? route ?? []].flat().map((entry) => (typeof entry === "string" ? entry : entry.pattern));

/**
 * Returns the routes of an environment, which inherits those of the top level.
 * @param {Section} top
 * @param {Section} section
 */
function inheritedRoutes(top, section) {
  const own = routesOf(section);
  return own.length > 0 ? own : routesOf(top);
}

/** @param {string} route */
const hostOf = (route) => route.replace(/^[a-z]+:\/\//, "").split("/")[0];

// Names that RFC 2606 and RFC 6761 keep from use.
const RESERVED_HOST = /(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$/;

/**
 * Returns why a deployed gateway cannot use this URL; undefined if it can.
 * @param {string} text
 */
function urlFault(text) {
  if (!URL.canParse(text)) return "is not a URL";
  const { protocol, hostname } = new URL(text);
  if (isLoopback(text)) return "is on loopback";
  if (RESERVED_HOST.test(hostname)) return "is an example";
  return protocol === "https:" ? undefined : "is not https://";
}

// Variables whose values must not be in a file of the repository.
const SECRET =
  /^(?:ASSERTION_KEYS_.+|METRICS_TOKEN|OPERATORS_TOKEN|DPOP_NONCE_KEYS|EVENTS_AUTHORIZATION_.+|AUTHORIZER_TOKEN_.+|INTROSPECTION_SECRET_.+|OTEL_EXPORTER_OTLP_HEADERS)$/;

/**
 * Returns what would not work in a deployment of this policy, as lines: of the whole file, or of an environment.
 * @param {Wrangler} wrangler
 * @param {string | undefined} name
 * @param {PolicyDocument} policy
 */
export const deploymentFaults = (wrangler, name, policy) =>
  name === undefined
    ? [
        ...storeFaults(wrangler),
        ...variableFaults(wrangler, policy),
        ...operatorsFaults(wrangler, wrangler, policy),
        ...policyFaults(wrangler, name, policy),
      ]
    : environmentFaults(wrangler, name, policy);

/**
 * Returns what is wrong with an environment for a deployment of this policy, as lines.
 * @param {Wrangler} wrangler
 * @param {string} name
 * @param {PolicyDocument} policy
 */
export function environmentFaults(wrangler, name, policy) {
  const section = environmentOf(wrangler, name);
  const others = [["the top level", wrangler], ...Object.entries(wrangler.env ?? {})].filter(
    ([other]) => other !== name,
  );
  const faults = [
    ...bindingFaults(wrangler, section, policy),
    ...sharingFaults(section, /** @type {[string, Section][]} */ (others)),
    ...routeFaults(wrangler, section, /** @type {[string, Section][]} */ (others)),
    ...variableFaults(section, policy),
    ...operatorsFaults(wrangler, section, policy),
    ...issuerFaults(policy),
  ];
  return faults.map((fault) => `${FILE}: ${name}: ${fault}`);
}

/**
 * @param {Section} top
 * @param {Section} section
 * @param {PolicyDocument} policy
 */
function bindingFaults(top, section, policy) {
  const own = bindingsOf(section).map(String);
  const missing = bindingsOf(top).filter((binding) => !own.includes(String(binding)));
  return [
    ...missing.map(([kind, binding]) => `${kind} lacks ${binding}; bindings are not inherited`),
    ...limitFaults(policy, [...limitsOf(section), ...missing.map(([, binding]) => binding)]),
    ...storeFaults(section),
  ];
}

/** @param {Section} section */
const storeFaults = ({ kv_namespaces = [] }) =>
  kv_namespaces
    .filter(({ id }) => isPlaceholder(id))
    .map(({ binding }) => `the id of ${binding} is a placeholder; run: npx wrangler kv namespace create ${binding}`);

/**
 * @param {Section} section
 * @param {[string, Section][]} others
 */
function sharingFaults(section, others) {
  const faults = [];
  for (const { name, script_name } of section.durable_objects?.bindings ?? [])
    if (script_name !== undefined) faults.push(`${name} uses the objects of the Worker ${script_name}`);
  const limits = section.ratelimits ?? [];
  for (const [index, { name, namespace_id }] of limits.entries()) {
    const earlier = limits.slice(0, index).find((other) => other.namespace_id === namespace_id);
    if (earlier !== undefined) faults.push(`${name} and ${earlier.name} share namespace_id ${namespace_id}`);
  }
  for (const [other, { name, kv_namespaces = [], ratelimits = [] }] of others) {
    for (const { binding, id } of section.kv_namespaces ?? [])
      if (!isPlaceholder(id) && kv_namespaces.some((store) => store.id === id))
        faults.push(`${binding} shares its id with ${other}`);
    for (const { name: limit, namespace_id } of limits)
      if (ratelimits.some((shared) => shared.namespace_id === namespace_id))
        faults.push(`${limit} shares namespace_id ${namespace_id} with ${other}`);
    if (name !== undefined && section.name === name) faults.push(`it has the Worker name of ${other}`);
  }
  return faults;
}

/**
 * @param {Section} top
 * @param {Section} section
 * @param {[string, Section][]} others
 */
function routeFaults(top, section, others) {
  const routes = inheritedRoutes(top, section);
  if (routes.length === 0)
    return section.workers_dev === true ? [] : ['it has no routes; write routes = [{ pattern = "…" }]'];
  return routes.flatMap((route) => {
    if (RESERVED_HOST.test(hostOf(route))) return [`the route ${route} is an example`];
    const shared = others.filter(([, other]) => routesOf(other).includes(route));
    return shared.map(([other]) => `it shares the route ${route} with ${other}`);
  });
}

/**
 * @param {Section} section
 * @param {PolicyDocument} policy
 */
function variableFaults({ vars = {} }, policy) {
  const faults = [];
  for (const [name, value] of Object.entries(vars)) {
    if (SECRET.test(name)) faults.push(`${name} is a secret and must not be in vars; run: npx wrangler secret put`);
    if (name === "DEVELOPMENT" && String(value) === "true") faults.push("DEVELOPMENT must not be true in a deployment");
  }
  for (const { what, variable, urls } of addressesOf(policy)) {
    for (const url of (vars[variable] || urls.join(",")).split(",")) {
      const fault = urlFault(url.trim());
      if (fault !== undefined) faults.push(`the URL of ${what} ${fault}; set ${variable} in vars`);
    }
  }
  return [...new Set(faults)];
}

/**
 * The operators' page has a host of its own, at which no route of the policy is served.
 * @param {Section} top
 * @param {Section} section
 * @param {PolicyDocument} policy
 */
function operatorsFaults(top, section, { public_url }) {
  const { OPERATORS_HOST: host, PUBLIC_URL = public_url } = section.vars ?? {};
  if (host === undefined) return [];
  const hosts = inheritedRoutes(top, section).map(hostOf);
  const isServed = hosts.some((one) => one === host || one.startsWith("*"));
  const isPublic = PUBLIC_URL !== undefined && URL.canParse(PUBLIC_URL) && new URL(PUBLIC_URL).hostname === host;
  const isOnlyHost = section.workers_dev !== true && hosts.every((one) => one === host);
  return [
    ...(isServed ? [] : [`no route has the host of OPERATORS_HOST, ${host}`]),
    ...(isPublic || (isServed && isOnlyHost) ? ["OPERATORS_HOST is the policy's own host; write another one"] : []),
  ];
}

/** @param {Section} section */
const limitsOf = ({ ratelimits = [] }) => ratelimits.map(({ name }) => name);

/**
 * Returns which rate limits of a policy would not be applied, because they have none of the bindings `bound`.
 * @param {PolicyDocument} policy
 * @param {string[]} bound
 */
export function limitFaults({ limits = {} }, bound) {
  const needed = Object.keys(limits).map((limit) => `LIMIT_${suffixOf(limit)}`);
  const missing = needed.filter((binding) => !bound.includes(binding));
  return missing.map((binding) => `ratelimits lacks ${binding}, which the policy needs`);
}

/**
 * Returns which issuers of a policy must not be deployed: any program that reaches a development issuer gets tokens of any
 * user, and so does one that takes its port on loopback.
 * @param {PolicyDocument} policy
 */
export function issuerFaults({ issuers = {} }) {
  return Object.entries(issuers).flatMap(([name, { issuer, jwks_url = "" }]) => {
    if (name === DEVELOPMENT_ISSUER || isLoopback(issuer))
      return [`issuer ${name} is for development; replace it in the policy by that of your users`];
    if (!isLoopback(jwks_url)) return [];
    return [
      `the jwks_url of issuer ${name} is on loopback, as in development; write its https:// URL, or jwks_upstream`,
    ];
  });
}

/**
 * Returns why a policy must not be used in an environment, or without a name at the top level, as lines.
 * @param {Wrangler} wrangler
 * @param {string | undefined} name
 * @param {PolicyDocument} policy
 */
export function policyFaults(wrangler, name, policy) {
  const section = name === undefined ? wrangler : environmentOf(wrangler, name);
  const place = name === undefined ? FILE : `${FILE}: ${name}`;
  return [...limitFaults(policy, limitsOf(section)).map((fault) => `${place}: ${fault}`), ...issuerFaults(policy)];
}

/**
 * Returns the addresses that the gateway asks, with the variables that replace them.
 * @param {PolicyDocument} policy
 */
function addressesOf({ upstreams = {}, issuers = {}, authorizers = {}, public_url }) {
  return [
    ...Object.entries(upstreams)
      .filter(([, { binding }]) => binding === undefined)
      .map(([name, { url, targets = [] }]) => ({
        what: `upstream ${name}`,
        variable: upstreamVariable(name),
        urls: url === undefined ? targets.map((target) => target.url) : [url],
      })),
    ...Object.entries(authorizers).map(([name, { url }]) => ({
      what: `authorizer ${name}`,
      variable: `AUTHORIZER_${suffixOf(name)}_URL`,
      urls: [url],
    })),
    ...Object.entries(issuers).flatMap(([name, { introspection }]) =>
      introspection === undefined
        ? []
        : [
            {
              what: `the introspection endpoint of ${name}`,
              variable: `INTROSPECTION_${suffixOf(name)}_URL`,
              urls: [introspection.url],
            },
          ],
    ),
    ...(public_url === undefined ? [] : [{ what: "the gateway", variable: "PUBLIC_URL", urls: [public_url] }]),
  ];
}
