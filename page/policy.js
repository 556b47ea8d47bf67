// The policy in use, its difference to the built-in one and to pushed ones, and the rollback.

import { request } from "./api.js";
import { diff } from "./diff.js";
import { byId, h, show } from "./dom.js";
import { plural } from "./format.js";

/**
 * @typedef {{ version: string, policy: any }} Policy
 * @typedef {{ is_live: boolean, built_in: Policy & { lines: any }, pushed: Policy | null, pushed_before: Policy | null }}
 *   Policies
 */

const ORIGINS = {
  "built-in": "Built into the Worker",
  pushed: "Pushed without a deploy",
  "pushed before": "The push before the newest, which cannot be used",
};

/**
 * Returns the policy of this version, with its lines if its file is known.
 * @param {Policies | undefined} policies
 * @param {string | undefined} version
 */
export function inUseOf(policies, version) {
  if (policies === undefined || version === undefined) return undefined;
  const { built_in, pushed, pushed_before } = policies;
  if (built_in.version === version) return { policy: built_in.policy, lines: built_in.lines };
  const found = [pushed, pushed_before].find((policy) => policy?.version === version);
  return found ? { policy: found.policy, lines: null } : undefined;
}

/**
 * @param {Policies | undefined} policies
 * @param {any} status
 */
export function showPolicy(policies, status) {
  if (policies === undefined || status === undefined) return;
  const { policy_version: version, policy_origin: origin, policy_fault: fault } = status;
  const { built_in, pushed, pushed_before, is_live } = policies;
  const inUse = inUseOf(policies, version)?.policy;
  const counts = ["routes", "upstreams", "issuers", "limits"].map((name) => [
    name,
    Object.keys(inUse?.[name] ?? {}).length,
  ]);
  show(byId("policy-state"), [version, origin, fault, policies], () => [
    fault &&
      h(
        "div.banner.bad",
        { role: "alert" },
        h("strong", {}, "The newest pushed policy is not used."),
        h("p", {}, `${fault[0].toUpperCase()}${fault.slice(1)}.`),
        h("p", {}, "Push a corrected policy, or roll back."),
      ),
    h(
      "dl.facts.wide",
      {},
      fact("In use", h("code", {}, version), h("span.badge", {}, /** @type {any} */ (ORIGINS)[origin] ?? origin)),
      fact("Built in", h("code", {}, built_in.version), built_in.lines && ` from ${built_in.lines.file}`),
      fact("Pushed", versionOf(pushed)),
      fact("Pushed before", versionOf(pushed_before)),
      inUse &&
        fact("Content", counts.map(([name, number]) => plural(Number(number), String(name).slice(0, -1))).join(", ")),
    ),
    !is_live && h("p.muted", {}, "LIVE_POLICY is not true: this deployment takes no pushed policies."),
    !fault &&
      pushed !== null &&
      pushed.version !== version &&
      h("p.muted", {}, "The pushed policy is not in use yet. Isolates read it within 90 seconds."),
  ]);
  byId("roll-back").hidden = pushed === null || !is_live;
  showChoices(policies, version);
}

/** @param {string} term @param {...import("./dom.js").Child} text */
const fact = (term, ...text) => h("div", {}, h("dt", {}, term), h("dd", {}, ...text));

/** @param {Policy | null} policy */
function versionOf(policy) {
  if (policy === null) return "none";
  return h("span", {}, h("code", {}, policy.version), policy.policy === null && " – no JSON, or too long to be shown");
}

/**
 * @param {Policies} policies
 * @param {string} version
 */
function showChoices(policies, version) {
  const { built_in, pushed, pushed_before } = policies;
  /** @type {[string, string, boolean][]} */
  const choices = [
    ["built_in/pushed", "Built in → pushed", pushed !== null && pushed.version !== version],
    ["built_in/in_use", "Built in → in use", built_in.version !== version || pushed === null],
    ["pushed_before/pushed", "Pushed before → pushed", pushed !== null && pushed_before !== null],
    ["pushed/built_in", "Pushed → built in", pushed !== null && pushed_before === null],
  ];
  const select = /** @type {HTMLSelectElement} */ (byId("compare"));
  const before = select.value;
  show(select, [choices, version], () =>
    choices.filter(([, , isThere]) => isThere).map(([value, name]) => h("option", { value }, name)),
  );
  if ([...select.options].some(({ value }) => value === before)) select.value = before;
  select.dataset.inUse = version;
  chooseDiff(policies);
}

/** @param {Policies | undefined} policies */
export function chooseDiff(policies) {
  const select = /** @type {HTMLSelectElement} */ (byId("compare"));
  if (policies === undefined || select.value === "") return;
  /** @param {string} name */
  const policyOf = (name) =>
    name === "in_use" ? inUseOf(policies, select.dataset.inUse)?.policy : /** @type {any} */ (policies)[name]?.policy;
  const [before, after] = select.value.split("/").map(policyOf);
  show(byId("diff"), [select.value, before, after], () => {
    if (!before || !after)
      return h("p.empty-list", {}, "One of the two cannot be read, so there is nothing to compare.");
    const rows = diff(before, after);
    const number = (/** @type {string} */ kind) => rows.filter((row) => row.kind === kind).length;
    if (number("added") + number("removed") === 0) return h("p.empty-list", {}, "The two are equal.");
    const signs = { added: "+", removed: "−", same: " ", skipped: "⋯" };
    const words = { added: "added: ", removed: "removed: ", same: "", skipped: "" };
    return [
      h("p.muted.small", {}, `${plural(number("added"), "line")} added, ${number("removed")} removed`),
      h(
        "pre.diff",
        { tabindex: 0, "aria-label": "Changed lines of the policy" },
        ...rows.map(({ kind, text }) =>
          h(
            `span.line.${kind}`,
            {},
            h("i.sign", { "aria-hidden": true }, signs[kind]),
            words[kind] !== "" && h("span.visually-hidden", {}, words[kind]),
            `${text}\n`,
          ),
        ),
      ),
    ];
  });
}

/**
 * @param {() => Policies | undefined} policiesNow
 * @param {() => void} onDone
 */
export function wireRollback(policiesNow, onDone) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("confirm"));
  const button = /** @type {HTMLButtonElement} */ (byId("confirm-yes"));
  /** @type {Policies | undefined} */
  let seen;
  byId("roll-back").addEventListener("click", () => {
    seen = policiesNow();
    if (!seen?.pushed) return;
    const { pushed, pushed_before, built_in } = seen;
    const target = pushed_before ?? built_in;
    byId("confirm-error").textContent = "";
    byId("confirm-text").replaceChildren(
      h(
        "p",
        {},
        pushed_before === null ? "The built-in policy " : "The policy pushed before, ",
        h("code", {}, target.version),
        pushed_before === null ? " replaces the pushed policy " : ", replaces the newest one, ",
        h("code", {}, pushed.version),
        ". Isolates use it within 90 seconds.",
      ),
      h(
        "p.muted",
        {},
        pushed_before === null ? "The pushed policy is deleted." : "A second rollback brings the newer one back.",
      ),
    );
    dialog.showModal();
    byId("confirm-no").focus();
  });
  button.addEventListener("click", () => {
    const roll = async () => {
      button.disabled = true;
      try {
        const headers = { "if-match": `"${seen?.pushed?.version}"` };
        const { version } = await (await request("/_gateway/rollback", { method: "POST", headers })).json();
        byId("policy-note").textContent = `Rolled back to ${version}. Isolates use it within 90 seconds.`;
        dialog.close();
        onDone();
      } catch (error) {
        byId("confirm-error").textContent = String(/** @type {Error} */ (error).message);
      } finally {
        button.disabled = false;
      }
    };
    void roll();
  });
}
