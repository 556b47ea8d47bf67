// Why a valid policy must not be served: a check before each generation, at the start and at a reload.

import { isIPv6 } from "node:net";

import { issuerFaults, limitFaults } from "../lib/environments.js";
import { isLoopback } from "../lib/policy-document.js";

/**
 * @import { PolicyDocument } from "../lib/policy-document.js"
 * @import { Project, Settings } from "./settings.js"
 */

/** @param {string} host an IP address */
const isLoopbackAddress = (host) => isLoopback(`http://${isIPv6(host) ? `[${host}]` : host}`);

/**
 * Returns what to change, as lines. Without its binding a rate limit is not applied. Tokens of a development issuer are
 * for programs on this machine.
 * @param {PolicyDocument} policy
 * @param {Pick<Settings & Project, "project" | "limits" | "development" | "listen">} settings
 */
export function servingFaults(policy, { project, limits, development, listen }) {
  const missing = limitFaults(policy, Object.keys(limits)).map((fault) => `${project.file}: ${fault}`);
  if (development && isLoopbackAddress(listen.host)) return missing;
  const issuers = issuerFaults(policy).map((fault) => `${fault}; --development allows it at a loopback address`);
  return [...missing, ...issuers];
}
