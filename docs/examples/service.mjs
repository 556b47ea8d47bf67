import { createServer } from "node:http";
import { jwtVerify } from "jose";

const keys = new Map(
  process.env.ASSERTION_KEYS_SHOP.split(",").map((item) => {
    const [kid, secret] = item.trim().split(":");
    return [kid, Buffer.from(secret, "base64url")];
  }),
);

async function identityOf(request) {
  const { payload } = await jwtVerify(
    request.headers["x-gateway-assertion"] ?? "",
    ({ kid }) => {
      if (!keys.has(kid)) throw new Error("unknown key");
      return keys.get(kid);
    },
    { algorithms: ["HS256"], typ: "gateway+jwt", issuer: "portcullis", audience: "shop", clockTolerance: 30 },
  );
  if (payload.htm !== request.method || payload.htu !== request.url) throw new Error("wrong request");
  return payload;
}

createServer(async (request, response) => {
  try {
    const { sub, roles } = await identityOf(request);
    response.end(`${sub} ${roles}`);
  } catch {
    const challenge = 'Gateway-Assertion realm="https://api.example.com", error="gateway_required"';
    response.writeHead(401, { "WWW-Authenticate": challenge }).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
