// What a command gets from where it runs: the package in a project, or a checkout.

/**
 * @import { Processes } from "./processes.js"
 * @import { Progress } from "./progress.js"
 * @import { PolicyTool } from "./policy-tool.js"
 * @typedef {object} Context
 * @property {string} command how its user calls the command, such as "portcullis check" or "npm run check"
 * @property {NodeJS.ProcessEnv} env
 * @property {Processes} processes
 * @property {(options: { progress?: Progress }) => Promise<PolicyTool>} openPolicyTool
 * @property {() => void} [onServing] called when the command serves: from then on, Ctrl-C is no failure
 * @property {() => string} projectFolder returns the folder of wrangler.toml; throws an error if there is none
 * @property {() => Wrangler} findWrangler also throws an error that says how to install it
 * @typedef {object} Wrangler how to run wrangler
 * @property {string} node the Node that runs it
 * @property {string} script
 * @property {string} folder of wrangler.toml
 * @property {string[]} local arguments for the local state, which is that of the development server
 * @property {Record<string, string>} env
 * @typedef {object} Command a module in cli/commands/
 * @property {string} summary
 * @property {(command: string) => string} help
 * @property {(args: string[], context: Context) => unknown} run returns the exit code, if it is not 0
 */

/**
 * Returns the policy file to build, check and push, as a person names it.
 * @param {NodeJS.ProcessEnv} env
 */
export const policyFile = (env) => env.GATEWAY_CONFIG || "gateway.toml";

// Folder of a project for what commands write: the Worker, logs, the keys of the development issuer.
export const PROJECT_FOLDER = ".portcullis";

// Variable that `portcullis dev` sets for builds while it serves.
export const SERVING = "PORTCULLIS_SERVING";
