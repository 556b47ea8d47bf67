// What the build command of a running `wrangler dev` prints, and what `npm start` makes of it
// for the terminal.

// Wrangler's prefix of what its build command prints.
const BUILD_LINE = /^\[custom build\] (.*)$/;
const CHANGED_LINE = /^The file (.+) changed, restarting build\.\.\.$/;

const POLICY = "policy: ";
const SOURCES = "sources: ";

export const builtLine = (profile, seconds) => `worker built (${profile}, ${seconds.toFixed(1)} s)`;
const BUILT_LINE = /^worker built \(\w+, ([\d.]+ s)\)$/;

// The lines of a build that failed while what was built before goes on serving.
export function failedLines({ lines, message }, { isPolicy }) {
  if (isPolicy) return lines.map((line) => `${POLICY}${line}`);
  return [...lines.map((line) => `  | ${line}`), `${SOURCES}${message}`];
}

// Gives a function that takes each line of wrangler's and calls `say` for what a person at the
// terminal wants to know of a reload. `askMissing` resolves with what a reloaded gateway lacks;
// `secretsFile` is where secrets are written; `log` is the file that has all lines.
export function createReloadTeller({ say, askMissing, secretsFile, log, policy = "gateway.toml" }) {
  let changed;
  let hasFailed = false;
  return (line) => {
    const file = CHANGED_LINE.exec(line)?.[1];
    if (file !== undefined) {
      changed = file === CHANGED ? policy : file;
      hasFailed = false;
      return undefined;
    }
    const text = BUILD_LINE.exec(line)?.[1];
    if (text === undefined || changed === undefined) return undefined;
    if (text.startsWith(POLICY)) {
      say(`✗ ${text.slice(POLICY.length)}`);
      if (!hasFailed) say("  not reloaded; the policy before goes on serving");
      hasFailed = true;
      return undefined;
    }
    if (text.startsWith(SOURCES)) {
      say(`✗ ${text.slice(SOURCES.length).replace("the lines above say why", `${log} says why`)}`);
      say("  not reloaded; the worker before goes on serving");
      return undefined;
    }
    const time = BUILT_LINE.exec(text)?.[1];
    if (time === undefined) return undefined;
    const what = changed.endsWith(".toml") ? "policy" : "worker";
    const name = changed;
    changed = undefined;
    return askMissing().then((missing) => {
      say(`${missing.length === 0 ? "✓" : "✗"} ${what} reloaded (${name}, ${time})`);
      for (const one of missing)
        say(`  ${one}${one.startsWith("secret ") ? `; write it into ${secretsFile}, then restart npm start` : ""}`);
    });
  };
}

// A file that wrangler watches in place of a policy elsewhere, relative to the checkout.
export const CHANGED = "build/policy-changed";
