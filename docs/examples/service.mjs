import { createServer } from "node:http";
import { AssertionError, createVerifier } from "portcullis-assertion";

const verify = createVerifier({
  audience: "shop",
  gateway: "https://api.example.com",
  keys: process.env.ASSERTION_KEYS_SHOP,
});

createServer(async (request, response) => {
  try {
    const { sub, roles } = await verify(request);
    response.end(`${sub} ${roles}`);
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error;
    response.writeHead(error.status, error.headers).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
