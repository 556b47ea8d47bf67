// The files of a new project.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** An error whose message is shown without a stack trace. */
export class CreateError extends Error {
  /**
   * @param {string} sentence
   * @param {number} [code]
   */
  constructor(sentence, code = 1) {
    super(sentence);
    this.code = code;
  }
}

const TEMPLATE = fileURLToPath(new URL("template", import.meta.url));

// Each file of a project, and its template. npm renames .gitignore in packages.
const FILES = {
  "package.json": "package.json",
  "wrangler.toml": "wrangler.toml",
  "gateway.toml": "gateway.toml",
  "gateway.tests.toml": "gateway.tests.toml",
  ".dev.vars.example": "dev.vars.example",
  ".gitignore": "gitignore",
  ".github/workflows/gateway.yml": "gateway.yml",
  "README.md": "README.md",
};

// Port of the development issuer, and of the example service.
const ISSUER_URL = "http://127.0.0.1:8788";
const EXAMPLE_URL = "http://127.0.0.1:8790";

// Audience of the development issuer's tokens.
const AUDIENCE = "api";

/**
 * Returns the texts of a project's files. An empty `upstream` means the example service, an empty `issuer` the
 * development issuer. With an issuer, the audience of its tokens is needed.
 * @param {{ folder: string, upstream: string, issuer: string, audience: string, version: string }} options
 */
export function filesOf({ folder, upstream, issuer, audience, version }) {
  if (upstream !== "") checkUrl("--upstream", upstream);
  if (issuer !== "") checkUrl("--issuer", issuer);
  if (issuer !== "" && audience === "")
    throw new CreateError('--audience is needed with --issuer: the "aud" of your users\' tokens.', 2);
  const accepted = audience || AUDIENCE;
  if (!/^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/.test(accepted))
    throw new CreateError("--audience must be visible characters without quotes and backslashes.", 2);
  const name = basename(folder)
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+|-+$/g, "");
  if (name === "") throw new CreateError("The folder's name needs a letter or a digit.", 2);
  /** @type {Record<string, string>} */
  const values = {
    name,
    version,
    audience: accepted,
    issuer: issuer || ISSUER_URL,
    issuer_name: issuer === "" ? "development" : "users",
    upstream: (upstream || EXAMPLE_URL).replace(/\/+$/, ""),
    upstream_name: upstream === "" ? "example" : "service",
    upstream_variable: upstream === "" ? "EXAMPLE" : "SERVICE",
  };
  const parts = new Set([
    issuer === "" ? "development" : "provider",
    upstream === "" ? "example" : "service",
    issuer === "" && upstream === "" ? "walk" : "own",
  ]);
  return Object.fromEntries(
    Object.entries(FILES).map(([file, template]) => [
      file,
      render(readFileSync(join(TEMPLATE, template), "utf8"), { values, parts }),
    ]),
  );
}

/**
 * @param {string} flag
 * @param {string} text
 */
function checkUrl(flag, text) {
  const isPlain = /^https?:\/\/[\x21\x23-\x5b\x5d-\x7e]+$/.test(text) && URL.canParse(text);
  if (!isPlain) throw new CreateError(`${flag} must be a URL, such as https://id.example.com/.`, 2);
}

/**
 * Replaces {{name}}, and keeps a section {{#part}} … {{/part}} if its part is chosen.
 * @param {string} template
 * @param {{ values: Record<string, string>, parts: Set<string> }} options
 */
const render = (template, { values, parts }) =>
  template
    .replace(/\{\{#(\w+)\}\}\n([\s\S]*?)\{\{\/\1\}\}\n/g, (_, part, text) => (parts.has(part) ? text : ""))
    .replace(/\{\{(\w+)\}\}/g, (_, name) => values[name]);

/**
 * Writes the files; if one of them is there already, none.
 * @param {string} folder
 * @param {Record<string, string>} files
 */
export function writeProject(folder, files) {
  const present = Object.keys(files).filter((name) => existsSync(join(folder, name)));
  if (present.length > 0)
    throw new CreateError(`${present.join(", ")} of ${folder} would be overwritten; choose another folder.`);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text, { flag: "wx" });
  }
}
