// The links of the documents, and the documents and tests that they and the sources name.

import { strict as assert } from "node:assert";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";

const SOURCES = ["bench", "cli", "client", "crates", "docs", "origin", "packages", "scripts", "src", "tests"];
const STANDARDS = join(ROOT, "docs", "standards");

// Files of the folder whose name ends so, also below it, as paths.
function filesIn(folder, ending) {
  const names = readdirSync(folder, { recursive: true }).filter((name) => ending.test(name));
  return names.filter((name) => !/\b(node_modules|target)\b/.test(name)).map((name) => join(folder, name));
}

const sources = SOURCES.flatMap((folder) => filesIn(join(ROOT, folder), /\.(rs|js|md|toml)$/));
const ownFiles = readdirSync(ROOT).filter((name) => /\.(md|toml)$/.test(name));
const texts = new Map([...sources, ...ownFiles.map((name) => join(ROOT, name))].map((file) => [file, read(file)]));
const pages = [...texts.keys()].filter((file) => file.endsWith(".md"));

function read(file) {
  return readFileSync(file, "utf8");
}

// The anchors that GitHub gives to the headings of a page.
function anchorsOf(page) {
  const headings = [...page.replace(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

test("each link of a page leads to a file, and to a heading of it", () => {
  assert.ok(pages.length > 30, `${pages.length} pages`);
  const broken = [];
  for (const page of pages)
    for (const [, target] of texts.get(page).matchAll(/\]\(((?!\w+:)[^)\s]+)\)/g)) {
      const [path, anchor] = target.split("#");
      const file = path === "" ? page : join(dirname(page), path);
      const leads = existsSync(file) && (anchor === undefined || anchorsOf(read(file)).includes(anchor));
      if (!leads) broken.push(`${relative(ROOT, page)}: ${target}`);
    }
  assert.deepEqual(broken, []);
});

test("each page that a source names exists", () => {
  const missing = [];
  for (const [file, text] of texts)
    for (const [name] of text.matchAll(/\bdocs\/[\w/-]+\.md\b/g))
      if (!existsSync(join(ROOT, name))) missing.push(`${relative(ROOT, file)}: ${name}`);
  assert.deepEqual(missing, []);
});

test("the index of the standards names each page", () => {
  const index = texts.get(join(STANDARDS, "README.md"));
  const named = [...index.matchAll(/^\| \[[^\]]+\]\(([\w-]+\.md)\)/gm)].map(([, name]) => name);
  const existing = readdirSync(STANDARDS).filter((name) => name !== "README.md");
  assert.deepEqual(named.toSorted(), existing.toSorted());
});

// Rust's tests are named by their functions, others by a title in which "…" stands for any text.
test("each test that proves a requirement exists", () => {
  const code = [...texts].filter(([file]) => /\.(rs|js)$/.test(file)).map(([, text]) => text);
  const lines = code.flatMap((text) => text.replaceAll("\\", "").split("\n"));
  const functions = new Set(code.flatMap((text) => [...text.matchAll(/\bfn (\w+)\(/g)].map(([, name]) => name)));
  const missing = [];
  let count = 0;
  for (const page of filesIn(STANDARDS, /\.md$/)) {
    const rows = /^\| requirement \| test \|\n\|---\|---\|\n((?:\|.*\n)+)/m.exec(texts.get(page))?.[1] ?? "";
    for (const cell of rows.split("\n").flatMap((row) => row.split(" | ").slice(1))) {
      const names = [...cell.matchAll(/`([a-z]\w*_\w+)`/g)].map(([, name]) => name);
      const titles = [...cell.matchAll(/\*([^*]+)\*/g)].map(([, title]) => title);
      const files = [...cell.matchAll(/`([\w./-]+\/[\w.-]+\.(?:js|rs))`/g)].map(([, file]) => file);
      count += names.length + titles.length + files.length;
      missing.push(
        ...names.filter((name) => !functions.has(name)),
        ...titles.filter(
          (title) => !lines.some((line) => title.split("…").every((part) => line.includes(part.trim()))),
        ),
        ...files.filter((file) => !existsSync(join(ROOT, file)) && !existsSync(join(ROOT, "tests", file))),
      );
    }
  }
  assert.ok(count > 150, `${count} tests`);
  assert.deepEqual(missing, []);
});
