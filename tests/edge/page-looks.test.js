// The operators' page in Chromium at three sizes, light and dark: with traffic, with a broken upstream, and with a pushed
// policy that cannot be used. axe-core has no findings.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { contains, findings, noChromium, openChromium, openPage } from "../harness/chromium.js";
import { startGateway } from "../harness/edge.js";
import { compile, makeTraffic, ME, OPERATED, OPERATOR, policiesOf, PUSHED, USER } from "../harness/operators.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

const SIZES = [
  { width: 390, height: 844 },
  { width: 1280, height: 900 },
  { width: 1920, height: 1080 },
];

const NARROW_AND_WIDE = [SIZES[0], SIZES[2]];

// PAGE_SHOTS names a folder for pictures of each view.
const SHOTS = process.env.PAGE_SHOTS;

describe("the operators' page in Chromium", { skip: noChromium }, () => {
  let users, issuer, edge, browser;

  before(async () => {
    ({ users, issuer, edge } = await startGateway(scope, { vars: OPERATED }));
    browser = await openChromium(scope);
    if (SHOTS !== undefined) mkdirSync(SHOTS, { recursive: true });
  });

  // Looks at the page at these sizes, light and dark.
  async function look(page, name, sizes = SIZES) {
    for (const size of sizes) {
      await page.setViewportSize(size);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        const at = `${name}-${size.width}-${colorScheme}`;
        if (SHOTS !== undefined) await page.screenshot({ path: join(SHOTS, `${at}.png`), fullPage: true });
        assert.deepEqual(await findings(page), [], at);
        const excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert.equal(await page.evaluate(excess), 0, `${at} is wider than the screen`);
      }
    }
  }

  test("no size, colour scheme or state has a finding of axe-core", async (t) => {
    const { context, page, problems } = await openPage(browser, edge.url, OPERATOR, { viewport: SIZES[1] });
    t.after(() => context.close());

    await makeTraffic({ issuer, edge }, 40);
    await contains(page, "routes", ME);
    await look(page, "overview");
    await page.click("nav a[href='#refusals']");
    await page.locator("#refusal-list summary").first().click();
    await look(page, "refusals", NARROW_AND_WIDE);

    users.answer(`GET ${USER}`, (_, response) => response.socket.destroy());
    const token = await issuer.accessToken({ roles: ["admin"] });
    for (let count = 0; count < 8; count += 1) await edge.get(USER, { token });
    await page.click("nav a[href='#overview']");
    await contains(page, "banner", "upstream users");
    await look(page, "broken-upstream");
    await page.setViewportSize(SIZES[0]);
    const failures = 'document.querySelector("#routes th:nth-child(4)").getBoundingClientRect().right <= innerWidth';
    assert.equal(await page.evaluate(failures), true, "a phone shows the failures of routes without scrolling");

    const good = JSON.parse(await compile(PUSHED));
    const bad = { ...good, routes: [{ ...good.routes[0], upstream: "no-such-service" }] };
    const policies = policiesOf(edge);
    await policies.put("current", JSON.stringify(bad));
    await page.click("nav a[href='#policy']");
    await contains(page, "policy-state", "no upstream is named");
    await contains(page, "diff", "no-such-service");
    await look(page, "bad-policy");
    await page.click("#roll-back");
    await contains(page, "confirm-text", "replaces the pushed policy");
    await look(page, "rollback", NARROW_AND_WIDE);
    await page.click("#confirm-yes");
    await contains(page, "policy-note", "Rolled back to");
    assert.equal(await policies.get("current"), null);

    await page.click("nav a[href='#token']");
    await page.fill("#token-text", await issuer.accessToken({ iat: 1_000_000, nbf: 1_000_000, exp: 1_000_600 }));
    await look(page, "token", NARROW_AND_WIDE);
    await page.click("#sign-out");
    await look(page, "signed-out", NARROW_AND_WIDE);
    assert.deepEqual(problems, []);
  });
});
