// `npm run check`

import * as check from "../cli/commands/check.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run check", check);
