#!/usr/bin/env node
// The command `portcullis`.

import { main } from "../lib/main.js";

await main();
