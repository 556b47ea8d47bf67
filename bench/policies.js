// The measured policies: the shipped one, the same with more algorithms or with an option, and policies with many routes.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ROOT } from "../scripts/lib/paths.js";
import { DOCUMENT, TABLES, addTo } from "./options.js";

export function writePolicies(folder) {
  const shipped = join(ROOT, "gateway.toml");
  const text = readFileSync(shipped, "utf8");
  const write = (name, content) => {
    const file = join(folder, `${name}.toml`);
    writeFileSync(file, content);
    return file;
  };
  const many = (count) => {
    const head = text.slice(0, text.indexOf("[[routes]]"));
    const kept = text.slice(text.lastIndexOf("[[routes]]"));
    const routes = Array.from({ length: count - 1 }, (_, index) => {
      const path = `/api/v1/shop-${index % 100}/{id}/part-${Math.floor(index / 100)}`;
      return `[[routes]]\npath = "${path}"\nmethods = ["GET"]\nupstream = "users"\naccess = "user"\n`;
    });
    return `${head}${routes.join("\n")}\n${kept}`;
  };
  const withOption = TABLES.flatMap(({ rows }) => rows).filter(({ additions }) => additions !== undefined);
  writeFileSync(join(folder, "users.json"), DOCUMENT);
  return {
    ...Object.fromEntries(withOption.map(({ build, additions }) => [build, write(build, addTo(text, additions))])),
    shipped,
    algorithms: write("algorithms", text.replace('algorithms = ["RS256"]', 'algorithms = ["RS256", "ES256", "EdDSA"]')),
    "routes-10": write("routes-10", many(10)),
    "routes-1000": write("routes-1000", many(1000)),
    "routes-10000": write("routes-10000", many(10_000)),
  };
}
