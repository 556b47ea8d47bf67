// `npm run explain`

import * as explain from "../cli/commands/explain.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run explain", explain);
