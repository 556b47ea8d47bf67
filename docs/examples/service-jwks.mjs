import { createServer } from "node:http";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const keys = createRemoteJWKSet(new URL("/_gateway/jwks.json", process.env.GATEWAY_URL));

async function identityOf(request) {
  const { payload } = await jwtVerify(request.headers["x-gateway-assertion"] ?? "", keys, {
    algorithms: ["ES256"],
    typ: "gateway+jwt",
    issuer: "portcullis",
    audience: "shop",
    clockTolerance: 30,
  });
  if (payload.htm !== request.method || payload.htu !== request.url) throw new errors.JWTInvalid("wrong request");
  return payload;
}

// The assertion is at fault, and not the connection to the gateway.
const isRefusal = ({ code }) => /^ERR_(JWT_|JWS_|JWKS_NO_MATCHING_KEY|JOSE_ALG_NOT_ALLOWED|JOSE_NOT_SUPPORTED)/.test(code);

createServer(async (request, response) => {
  try {
    const { sub, roles, claims } = await identityOf(request);
    response.end(`${sub} ${roles} ${claims?.tenant}`);
  } catch (error) {
    if (!isRefusal(error)) return response.writeHead(503, { "Retry-After": "2" }).end();
    const challenge = 'Gateway-Assertion realm="https://api.example.com", error="gateway_required"';
    response.writeHead(401, { "WWW-Authenticate": challenge }).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
