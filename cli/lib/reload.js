// What the build command of a running `wrangler dev` prints, and what is shown of it.

// wrangler's prefix of what its build command prints.
const BUILD_LINE = /^\[custom build\] (.*)$/;
const CHANGED_LINE = /^The file (.+) changed, restarting build\.\.\.$/;

const POLICY_FILE = /^gateway(?:\.tests)?\.toml$/;

const POLICY = "policy: ";
// Ends the mistakes of a policy.
const REFUSED = "policy refused";
const SOURCES = "sources: ";
const STALE = "stale: ";

/**
 * @param {string} profile
 * @param {number} seconds
 */
export const builtLine = (profile, seconds) => `worker built (${profile}, ${seconds.toFixed(1)} s)`;
const BUILT_LINE = /^worker built \(\w+, ([\d.]+ s)\)$/;

/**
 * Returns the lines of a failed build while the previous worker keeps serving.
 * @param {{ lines: string[], message: string }} error
 * @param {{ isPolicy: boolean }} options
 */
export function failedLines({ lines, message }, { isPolicy }) {
  if (isPolicy) return [...lines.map((line) => `${POLICY}${line}`), REFUSED];
  return [...lines.map((line) => `  | ${line}`), `${SOURCES}${message}`];
}

/**
 * Returns the line of a build that could not compile changed sources.
 * @param {string} why
 */
export const staleLine = (why) => `${STALE}${why}: changed sources are not compiled.`;

/**
 * @typedef {object} ReloadOptions
 * @property {(text: string) => void} say
 * @property {() => Promise<string[]>} fetchMissing
 * @property {string} secretsFile
 * @property {string} log
 * @property {string} [policy]
 * @property {() => void} [onChange] called when wrangler has noticed a change
 */

/**
 * Returns a function that takes each line of wrangler's output and shows reloads. `fetchMissing` resolves with
 * what a reloaded gateway lacks; `secretsFile` is the file of its secrets; `log` is the file of all lines.
 * @param {ReloadOptions} options
 * @returns {(line: string) => undefined | Promise<void>}
 */
export function createReloadReporter({ say, fetchMissing, secretsFile, log, policy = "gateway.toml", onChange }) {
  /** @type {string | undefined} */
  let changed;
  let isPolicy = false;
  return (line) => {
    const file = CHANGED_LINE.exec(line)?.[1];
    if (file !== undefined) {
      onChange?.();
      changed = file === CHANGED ? policy : file;
      isPolicy = file === CHANGED || POLICY_FILE.test(file);
      return undefined;
    }
    const text = BUILD_LINE.exec(line)?.[1];
    if (text === undefined || changed === undefined) return undefined;
    if (text.startsWith(POLICY)) {
      say(`✗ ${text.slice(POLICY.length)}`);
      return undefined;
    }
    if (text === REFUSED) {
      say("  not reloaded; the previous policy stays in use");
      return undefined;
    }
    if (text.startsWith(SOURCES)) {
      say(`✗ ${text.slice(SOURCES.length).replace("the lines above say why", `${log} says why`)}`);
      say("  not reloaded; the previous worker stays in use");
      return undefined;
    }
    // A policy is data, and needs no compiler.
    if (text.startsWith(STALE) && !isPolicy) {
      say(`✗ ${text.slice(STALE.length)}`);
      say("  not reloaded; the previous worker stays in use");
      changed = undefined;
      return undefined;
    }
    const time = BUILT_LINE.exec(text)?.[1];
    if (time === undefined) return undefined;
    const what = isPolicy ? "policy" : "worker";
    const name = changed;
    changed = undefined;
    return fetchMissing().then((missing) => {
      const isReady = missing.length === 0;
      say(`${isReady ? "✓" : "✗"} ${what} reloaded (${name}, ${time})${isReady ? "" : "; the gateway is not ready"}`);
      for (const one of missing)
        say(`  ${one}${one.startsWith("secret ") ? `; write it into ${secretsFile}, then restart the gateway` : ""}`);
    });
  };
}

// A file that wrangler watches instead of a policy outside of the checkout, relative to the checkout.
export const CHANGED = "build/policy-changed";
