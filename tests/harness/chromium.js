// A headless Chromium at the operators' page.
//
//   const noChromium            why tests with it are skipped, or false
//   const browser = await openChromium(scope);          playwright's browser
//   const { page, context, problems, sent } = await openPage(browser, edge.url, token);     signed in
//   await signIn(page, token);                          on a page that is open
//   await contains(page, "banner", "Degraded");         waits for a text
//   await findings(page)        what axe-core objects to

import { accessSync, constants, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

const require = createRequire(import.meta.url);

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

// CHROMIUM names another one.
const executable = process.env.CHROMIUM ?? NAMES.flatMap(placesOf).find(isExecutable);

/** @param {string} name */
function placesOf(name) {
  return (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name));
}

/** @param {string} file */
function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export const noChromium = executable === undefined && "needs Chromium (chromium on the PATH, or CHROMIUM)";

/** @param {import("./scope.js").Scope} scope */
export async function openChromium(scope) {
  const { chromium } = require("playwright-core");
  // Chromium's own sandbox does not work for root, and not in every container.
  const browser = await chromium.launch({ executablePath: executable, args: ["--no-sandbox"] });
  scope.after(() => browser.close());
  return browser;
}

/**
 * Opens the page and signs in. `problems` are errors of the console, and `sent` the requests.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {string} token
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function openPage(browser, url, token, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const [problems, sent] = [[], []];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => sent.push(request));
  await page.goto(`${url}/_gateway/`);
  await signIn(page, token);
  await page.waitForSelector("#overview:not([hidden]) #tiles .tile");
  return { context, page, problems, sent };
}

/**
 * @param {import("playwright-core").Page} page
 * @param {string} token
 */
export async function signIn(page, token) {
  await page.fill("#operators-token", token);
  await page.keyboard.press("Enter");
}

/**
 * Waits until an element contains a text. A locator, because the page's policy forbids the strings that
 * `waitForFunction` evaluates.
 * @param {import("playwright-core").Page} page
 * @param {string} id
 * @param {string} text
 */
export const contains = (page, id, text) => page.locator(`#${id}`, { hasText: text }).waitFor({ timeout: 40_000 });

const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/**
 * Returns what axe-core finds on a page, as lines. The page's content security policy forbids scripts of others, so
 * the browser's debugger runs it.
 * @param {import("playwright-core").Page} page
 */
export async function findings(page) {
  const session = await page.context().newCDPSession(page);
  const run = async (/** @type {string} */ expression) => {
    const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  // Once for each page: it takes a while to load.
  if (!(await run("typeof axe === 'object'"))) await run(AXE);
  const lines = await run(`axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
    violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => id + " at " + target + ": " + failureSummary)))`);
  await session.detach();
  return lines;
}
