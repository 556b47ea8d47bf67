// `npm run routes`

import * as routes from "../cli/commands/routes.js";
import { runInCheckout } from "./lib/checkout.js";

await runInCheckout("npm run routes", routes);
