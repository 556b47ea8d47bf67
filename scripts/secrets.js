// `npm run secrets`

import * as secrets from "../cli/commands/secrets.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run secrets", secrets);
