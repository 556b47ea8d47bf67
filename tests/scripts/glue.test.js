// The glue of wasm-bindgen, as the build changes it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fixGlue } from "../../scripts/lib/glue.js";

const GLUE = `import { ask } from './snippets/bindings.js';
import * as import1 from "./snippets/proxy.js"
import * as import2 from "./snippets/bindings.js"
import * as import3 from "./snippets/bindings.js"
import * as import10 from "./snippets/bindings.js"
import source wasmModule from "./index_bg.wasm";

    return {
        __proto__: null,
        "./index_bg.js": import0,
        "./snippets/proxy.js": import1,
        "./snippets/bindings.js": import2,
        "./snippets/bindings.js": import3,
        "./snippets/bindings.js": import10,
    };
`;

const FIXED = `import { ask } from './snippets/bindings.js';
import * as import1 from "./snippets/proxy.js"
import * as import2 from "./snippets/bindings.js"
import wasmModule from "./index_bg.wasm";

    return {
        __proto__: null,
        "./index_bg.js": import0,
        "./snippets/proxy.js": import1,
        "./snippets/bindings.js": import2,
    };
`;

test("the glue imports each module once, and the wasm as a module", () => {
  assert.equal(fixGlue(GLUE), FIXED);
});

test("glue of another form is refused", () => {
  assert.throws(() => fixGlue(FIXED), /unexpected form/);
  assert.throws(() => fixGlue(`${GLUE}import3.ask();\n`), /uses import3/);
});
