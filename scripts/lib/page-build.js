// Builds the operators' page (page/) into one module of the Worker: HTML with its style and its script, and the content
// security policy that allows these two alone.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { transformSync, buildSync } from "esbuild";

import { ScriptError } from "../../cli/lib/errors.js";
import { ROOT } from "./paths.js";

const FOLDER = join(ROOT, "page");
const ERRORS = join(ROOT, "docs", "errors.md");

// Browsers of the last two years: `light-dark()`, `:has()` and dialogs.
const TARGETS = ["chrome123", "edge123", "firefox121", "safari17.5"];

/**
 * Returns the module `page.js`, or undefined if `known`, the text of the last build, has the same sources.
 * @param {string | undefined} known
 */
export function pageModule(known) {
  const stamp = `// ${digestOf()}\n`;
  if (known?.startsWith(stamp)) return undefined;
  const { page, contentPolicy } = buildPage();
  return `${stamp}export const page = ${JSON.stringify(page)};\nexport const contentPolicy = ${JSON.stringify(contentPolicy)};\n`;
}

/** Returns the page and its content security policy. */
export function buildPage() {
  const script = buildSync({
    entryPoints: [join(FOLDER, "main.js")],
    bundle: true,
    write: false,
    format: "esm",
    minify: true,
    charset: "utf8",
    target: TARGETS,
    define: { REASONS: JSON.stringify(reasonsIn(readFileSync(ERRORS, "utf8"))) },
    logLevel: "silent",
  }).outputFiles[0].text.trim();
  const style = transformSync(readFileSync(join(FOLDER, "page.css"), "utf8"), {
    loader: "css",
    minify: true,
    target: TARGETS,
  }).code.trim();
  const html = readFileSync(join(FOLDER, "index.html"), "utf8");
  // A function, because a replacement text has a meaning for `$`.
  const page = html.replace("/* style */", () => style).replace("/* script */", () => script);
  const contentPolicy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  return { page, contentPolicy };
}

/**
 * Returns the text of each code of docs/errors.md, without links.
 * @param {string} text
 */
export function reasonsIn(text) {
  const sections = text.split(/^### /m).slice(1);
  const reasons = sections.map((section) => {
    const [code, ...rest] = section.split("\n");
    const [body] = rest.join("\n").split(/^## /m);
    return [
      code.trim(),
      body
        .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
        .replace(/\s+/g, " ")
        .trim(),
    ];
  });
  if (reasons.length === 0 || reasons.some(([, body]) => body === ""))
    throw new ScriptError("docs/errors.md has an unexpected form; see reasonsIn in scripts/lib/page-build.js.");
  return Object.fromEntries(reasons);
}

/** @param {string} text */
const hashOf = (text) => `sha256-${createHash("sha256").update(text).digest("base64")}`;

function digestOf() {
  const hash = createHash("sha256");
  const files = readdirSync(FOLDER)
    .sort()
    .map((name) => join(FOLDER, name));
  for (const file of [...files, ERRORS, fileURLToPath(import.meta.url)]) hash.update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}
