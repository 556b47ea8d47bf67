// Command-line arguments: `node:util`'s parseArgs, --help for each script, checked
// values, and one sentence with exit code 2 for anything else.

import { isIP } from "node:net";
import { parseArgs } from "node:util";

import { EXIT_USAGE, ScriptError } from "./errors.js";

/**
 * An option of a script. `parse` turns its text into its value; `multiple` collects the values of
 * a repeated option in a list.
 * @typedef {object} Option
 * @property {"boolean" | "string"} type
 * @property {string} [short]
 * @property {boolean} [multiple]
 * @property {(text: string, flag: string) => unknown} [parse]
 */

/** @type {Record<string, Option>} */
const HELP = { help: { type: "boolean", short: "h" } };

/**
 * Options for what a request's rule may ask for besides its caller.
 * @type {Record<string, Option>}
 */
export const ORIGIN_OPTIONS = {
  country: { type: "string" },
  address: {
    type: "string",
    parse: (text, flag) => {
      if (isIP(text) === 0) throw usageError(`${flag} needs an IP address.`);
      return text;
    },
  },
  host: { type: "string" },
};

/**
 * Parses `args` of the script that `command` runs, such as "npm start". `choices` are the allowed
 * positional arguments; without them, up to `most` of any kind are allowed. With --help, `values`
 * holds nothing else.
 * @param {string[]} args
 * @param {{ command: string, options?: Record<string, Option>, choices?: string[], most?: number }} spec
 * @returns {{ values: Record<string, any>, positionals: string[] }}
 */
export function readArguments(args, { command, options = {}, choices, most = 0 }) {
  const known = { ...HELP, ...options };
  const { tokens } = parseArgs({
    args,
    options: Object.fromEntries(
      Object.entries(known).map(([name, { type, short }]) => [name, short ? { type, short } : { type }]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const isHelp = tokens.some((token) => token.kind === "option" && token.name === "help");
  if (isHelp) return { values: { help: true }, positionals: [] };
  /** @type {Record<string, any>} */
  const values = {};
  /** @type {string[]} */
  const positionals = [];
  for (const token of tokens) {
    if (token.kind === "positional" && (choices?.includes(token.value) ?? positionals.length < most)) {
      positionals.push(token.value);
    } else if (token.kind === "option" && Object.hasOwn(known, token.name)) {
      const { [token.name]: option } = known;
      const value = readValue(token, option);
      values[token.name] = option.multiple ? [...(values[token.name] ?? []), value] : value;
    } else if (token.kind !== "option-terminator") {
      const given = token.kind === "option" ? token.rawName : token.value;
      throw usageError(`${JSON.stringify(given)} is not known; ${seeHelp(command)}`);
    }
  }
  return { values, positionals };
}

/**
 * @param {{ rawName: string, value?: string }} token
 * @param {Option} option
 */
function readValue({ rawName, value }, { type, parse }) {
  if (type === "boolean") {
    if (value !== undefined) throw usageError(`${rawName} takes no value.`);
    return true;
  }
  if (parse !== undefined) return parse(value ?? "", rawName);
  if (!value) throw usageError(`${rawName} needs a value.`);
  return value;
}

/**
 * Returns how arguments are given to a command: npm takes those after "--" only.
 * @param {string} command
 */
export const withArguments = (command) => (command.startsWith("npm ") ? `${command} --` : command);

/** @param {string} command */
export const seeHelp = (command) => `see: ${withArguments(command)} --help`;

/**
 * Returns the lines of a command's help: each row is its arguments, and what it does with them.
 * @param {string} command
 * @param {[string, string][]} rows
 */
export function usage(command, rows) {
  const calls = rows.map(([args]) => (args === "" ? command : `${withArguments(command)} ${args}`));
  const width = Math.max(...rows.map(([, text], index) => (text === "" ? 0 : calls[index].length)));
  return rows.map(([, text], index) => `${calls[index].padEnd(width)}   ${text}`.trimEnd()).join("\n");
}

/** @param {string} sentence */
export function usageError(sentence) {
  return new ScriptError(sentence, { code: EXIT_USAGE });
}

/**
 * Returns a parser for whole numbers from 1 to `most`.
 * @param {number} most
 * @returns {(text: string, flag: string) => number}
 */
export const wholeNumber = (most) => (text, flag) => {
  if (!/^\d{1,15}$/.test(text) || Number(text) < 1 || Number(text) > most)
    throw usageError(`${flag} must be a whole number from 1 to ${most}.`);
  return Number(text);
};

/**
 * Returns a parser for comma-separated lists of names in `known`.
 * @param {string[]} known
 * @returns {(text: string, flag: string) => string[]}
 */
export const namesOf = (known) => (text, flag) => {
  const names = text.split(",").filter(Boolean);
  if (names.length === 0) throw usageError(`${flag} needs a name; the names are: ${known.join(", ")}.`);
  for (const name of names) {
    if (!known.includes(name))
      throw usageError(`${flag}: ${JSON.stringify(name)} is not known; the names are: ${known.join(", ")}.`);
  }
  return names;
};
