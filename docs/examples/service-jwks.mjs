import { createServer } from "node:http";
import { AssertionError, createVerifier } from "portcullis-assertion";

// Without `keys`, the gateway's public keys are fetched.
const verify = createVerifier({ audience: "shop", gateway: process.env.GATEWAY_URL, algorithm: "ES256" });

createServer(async (request, response) => {
  try {
    const { sub, roles, claims } = await verify(request);
    response.end(`${sub} ${roles} ${claims?.tenant}`);
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error;
    response.writeHead(error.status, error.headers).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
