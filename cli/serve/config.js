// The configurations of workerd for the two kinds of processes, as Cap'n Proto text. No secret is in them: they name
// variables of the environment.

import { join } from "node:path";

/**
 * @import { Project, Settings } from "./settings.js"
 * @typedef {{ name: string, path: string }} Module `path` is absolute
 */

// File names of Unix sockets in the runtime folder, which is the processes' working directory: a socket's path may have
// about 100 bytes only.
const CONTROL_SOCKET = "control.sock";
export const edgeSocket = (/** @type {string} */ name) => `${name}.sock`;

// The entrypoint of owner.js behind each socket of the owner process, and the name of the service in edge processes.
const OWNER_SERVICES = { kv: "Kv", objects: "Objects", limits: "Limits" };

/** The sockets of the owner process; the first is the supervisor's. */
export const OWNER_SOCKETS = [CONTROL_SOCKET, ...Object.keys(OWNER_SERVICES).map((name) => `${name}.sock`)];

const OBJECTS_OF_GATEWAY = { REVOCATIONS: "Revocations", METRICS: "Metrics" };
const OBJECTS_OF_OWNER = { STORE: "Store", CRON: "Cron" };

// Bindings that no variable replaces.
export const RESERVED_NAMES = [
  "KEYS",
  "TRUSTED_PROXIES",
  ...Object.keys(OBJECTS_OF_GATEWAY),
  ...Object.keys(OBJECTS_OF_OWNER),
];

// Cap'n Proto quotes text like JSON.
const text = (/** @type {unknown} */ value) => JSON.stringify(value);
const list = (/** @type {string[]} */ items) => `[${items.map((item) => `\n      ${item}`).join(",")}\n    ]`;
// workerd finds absolute paths with --import-path=/.
const embed = (/** @type {string} */ file) => `embed ${text(file)}`;

/** @param {Module} module */
function moduleOf({ name, path }) {
  const kind = name.endsWith(".wasm") ? "wasm" : "esModule";
  return `(name = ${text(name)}, ${kind} = ${embed(path)})`;
}

/** @param {string[]} names */
const variables = (names) => names.map((name) => `(name = ${text(name)}, fromEnvironment = ${text(name)})`);

/**
 * The network for upstreams and issuers. The policy names them; no request does.
 * @param {Pick<Settings, "ca">} settings
 */
function internet({ ca }) {
  const more = ca === undefined ? "" : `, trustedCertificates = [${embed(ca)}]`;
  return `(name = "internet", network = (
      allow = ["public", "private"],
      deny = ["unix", "unix-abstract"],
      tlsOptions = (trustBrowserCas = true${more}),
    ))`;
}

/**
 * @param {string[]} services
 * @param {string[]} sockets
 * @param {string} more
 */
const configuration = (services, sockets, more = "") => `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
    services = ${list(services)},
    sockets = ${list(sockets)},${more}
);
`;

/**
 * Returns the configuration of the edge processes. They serve the public socket, which they inherit, and one of their own.
 * @param {Pick<Settings & Project, "compatibilityDate" | "limits" | "trustedProxies" | "tls" | "ca">} settings
 * @param {{ modules: Module[], extensions: string, names: string[] }} given `names` are those of variables
 */
export function edgeConfiguration(settings, { modules, extensions, names }) {
  /**
   * @param {string} kind
   * @param {string[]} inner
   */
  const wrapped = (kind, inner) =>
    `wrapped = (moduleName = "portcullis:${kind}", innerBindings = [${inner.map((one) => `(${one})`).join(", ")}])`;
  const bindings = [
    ...variables(names),
    `(name = "TRUSTED_PROXIES", json = ${text(JSON.stringify(settings.trustedProxies))})`,
    `(name = "KEYS", kvNamespace = "kv")`,
    ...Object.keys(OBJECTS_OF_GATEWAY).map((name) => {
      const inner = [`name = "owner", service = "objects"`, `name = "namespace", text = ${text(name)}`];
      return `(name = ${text(name)}, ${wrapped("objects", inner)})`;
    }),
    ...Object.entries(settings.limits).map(([name, { limit, period }]) => {
      const inner = [
        `name = "owner", service = "limits"`,
        ...Object.entries({ name, limit, period }).map(
          ([key, value]) => `name = "${key}", text = ${text(String(value))}`,
        ),
      ];
      return `(name = ${text(name)}, ${wrapped("limit", inner)})`;
    }),
  ];
  const { tls } = settings;
  const pair = tls && `(privateKey = ${embed(tls.key)}, certificateChain = ${embed(tls.cert)})`;
  const options = pair ? `https = (options = (), tlsOptions = (keypair = ${pair}))` : "http = ()";
  const extension = (/** @type {string} */ name) =>
    `(name = "portcullis:${name}", internal = true, esModule = ${embed(join(extensions, `${name}.js`))})`;
  return configuration(
    [
      `(name = "gateway", worker = (
        modules = ${list(modules.map(moduleOf))},
        compatibilityDate = ${text(settings.compatibilityDate)},
        bindings = ${list(bindings)},
      ))`,
      ...Object.keys(OWNER_SERVICES).map(
        (name) => `(name = "${name}", external = (address = "unix:${name}.sock", http = ()))`,
      ),
      internet(settings),
    ],
    [`(name = "public", ${options}, service = "gateway")`, `(name = "private", http = (), service = "gateway")`],
    `\n    extensions = [(modules = [${["retry", "counter", "objects", "limit"].map(extension).join(", ")}])],`,
  );
}

/**
 * Returns the configuration of the owner process.
 * @param {Pick<Settings & Project, "compatibilityDate" | "ca">} settings
 * @param {{ modules: Module[], objects: string, names: string[] }} given `objects` is the folder of their files
 */
export function ownerConfiguration(settings, { modules, objects, names }) {
  const classes = { ...OBJECTS_OF_GATEWAY, ...OBJECTS_OF_OWNER };
  const bindings = [
    ...variables(names),
    `(name = "KEYS", kvNamespace = (name = "owner", entrypoint = "Kv"))`,
    ...Object.entries(classes).map(([name, type]) => `(name = "${name}", durableObjectNamespace = "${type}")`),
  ];
  // The unique key names the folder of the objects' files.
  const namespaces = Object.values(classes).map(
    (type) => `(className = "${type}", uniqueKey = "portcullis-${type.toLowerCase()}", enableSql = true)`,
  );
  return configuration(
    [
      `(name = "owner", worker = (
        modules = ${list(modules.map(moduleOf))},
        compatibilityDate = ${text(settings.compatibilityDate)},
        bindings = ${list(bindings)},
        durableObjectNamespaces = ${list(namespaces)},
        durableObjectStorage = (localDisk = "disk"),
      ))`,
      `(name = "disk", disk = (path = ${text(objects)}, writable = true))`,
      internet(settings),
    ],
    [
      `(name = "control", address = "unix:${CONTROL_SOCKET}", http = (), service = "owner")`,
      ...Object.entries(OWNER_SERVICES).map(
        ([name, entrypoint]) =>
          `(name = "${name}", address = "unix:${name}.sock", http = (), service = (name = "owner", entrypoint = "${entrypoint}"))`,
      ),
    ],
  );
}
