// Shows what token.js finds out.

import { byId, h, marked, show } from "./dom.js";
import { dateTime } from "./format.js";
import { reasonOf } from "./refusals.js";
import { UNCHECKED, explain } from "./token.js";

const MARKS = { good: ["✓", "passes"], bad: ["✕", "fails"], unknown: ["–", "not checked"] };

const DATES = ["exp", "iat", "nbf", "auth_time"];

/** @param {any} policy in use */
export function showToken(policy) {
  const text = /** @type {HTMLTextAreaElement} */ (byId("token-text")).value;
  const isEmpty = text.trim() === "";
  // By the minute, so that a page that stays open shows an expiry.
  const minute = Math.floor(Date.now() / 60_000);
  show(byId("token-result"), [text, policy !== undefined, minute], () => {
    const verdict = byId("token-verdict");
    verdict.textContent = "";
    if (isEmpty) return null;
    const { header, claims, issuer, checks } = explain(text, policy, Date.now());
    const bad = checks.filter(({ result }) => result === "bad");
    verdict.textContent = bad.length > 0 ? `The token is refused: ${bad[0].text}` : "No fault of the token is found.";
    return [
      h(
        "section.card",
        { "aria-labelledby": "verdict" },
        h(
          "div.verdict",
          {},
          h("h2", { id: "verdict" }, bad.length > 0 ? bad[0].code : "No fault found"),
          h(`span.badge.${bad.length > 0 ? "bad" : "good"}`, {}, bad.length > 0 ? "Refused" : "As far as checked"),
          issuer !== undefined && h("span.muted", {}, `Issuer ${issuer}`),
        ),
        bad.length > 0 && h("p", {}, ...marked(reasonOf(bad[0].code ?? ""))),
        h(
          "ul.checks",
          {},
          ...checks.map(({ result, name, text: words }) =>
            h(
              `li.${result}`,
              {},
              h("span.mark", { "aria-hidden": true }, MARKS[result][0]),
              h("span.visually-hidden", {}, `${MARKS[result][1]}: `),
              h("strong", {}, name),
              h("span.words", {}, words),
            ),
          ),
        ),
        h("p.muted.small", {}, `Only the gateway checks ${UNCHECKED.join("; ")}. The command explain does most of it.`),
      ),
      h(
        "div.columns",
        {},
        claims && h("section.card", {}, h("h2", {}, "Claims"), json(claims, "Claims")),
        header && h("section.card", {}, h("h2", {}, "Header"), json(header, "Header")),
      ),
    ];
  });
}

/** @param {any} value @param {string} label */
function json(value, label) {
  const lines = JSON.stringify(value, null, 2).split("\n");
  return h(
    "pre",
    { tabindex: 0, "aria-label": label },
    ...lines.flatMap((line) => {
      const found = /^ {2}"(\w+)": (\d+(?:\.\d+)?),?$/.exec(line);
      const isDate = found !== null && DATES.includes(found[1]) && Number(found[2]) < 253_402_300_800;
      return [line, isDate && h("span.note", {}, `  ${dateTime(Number(found[2]) * 1000)}`), "\n"];
    }),
  );
}
