// `npm run policy:push`

import * as push from "../cli/commands/push.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run policy:push", push);
