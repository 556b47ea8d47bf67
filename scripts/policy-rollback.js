// `npm run policy:rollback`

import * as rollback from "../cli/commands/rollback.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run policy:rollback", rollback);
