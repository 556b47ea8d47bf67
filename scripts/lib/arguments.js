// Command-line arguments of the scripts: `node:util`'s parseArgs, with --help for each script,
// values that are checked, and one sentence with exit code 2 for anything else.

import { parseArgs } from "node:util";

import { EXIT_USAGE, ScriptError } from "./errors.js";

const HELP = { help: { type: "boolean", short: "h" } };

// Parses `args` of the script that `command` runs, such as "npm start". `options` are those of
// parseArgs, where `parse(text, flag)` may turn an option's text into its value, and `multiple`
// collects the values of an option that is repeated. `choices` are the positional arguments that
// are allowed; without them, `most` of any kind are. Returns { values, positionals }.
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
  const isHelp = tokens.some(({ kind, name }) => kind === "option" && name === "help");
  if (isHelp) return { values: { help: true }, positionals: [] };
  const values = {};
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
      throw usageError(`${JSON.stringify(given)} is not known; see: ${command} -- --help`);
    }
  }
  return { values, positionals };
}

function readValue({ rawName, value }, { type, parse }) {
  if (type === "boolean") {
    if (value !== undefined) throw usageError(`${rawName} takes no value.`);
    return true;
  }
  if (parse !== undefined) return parse(value ?? "", rawName);
  if (!value) throw usageError(`${rawName} needs a value.`);
  return value;
}

export function usageError(sentence) {
  return new ScriptError(sentence, { code: EXIT_USAGE });
}

// Parses whole numbers from 1 to `most`.
export const wholeNumber = (most) => (text, flag) => {
  if (!/^\d{1,15}$/.test(text) || Number(text) < 1 || Number(text) > most)
    throw usageError(`${flag} must be a whole number from 1 to ${most}.`);
  return Number(text);
};

// Parses a list of names with commas between them, each one of `known`.
export const namesOf = (known) => (text, flag) => {
  const names = text.split(",").filter(Boolean);
  if (names.length === 0) throw usageError(`${flag} needs a name; there are: ${known.join(", ")}.`);
  for (const name of names) {
    if (!known.includes(name))
      throw usageError(`${flag}: there is no ${JSON.stringify(name)}; there are: ${known.join(", ")}.`);
  }
  return names;
};
