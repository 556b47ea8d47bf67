import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt

KEYS = jwt.PyJWKClient(os.environ["GATEWAY_URL"] + "/_gateway/jwks.json", lifespan=300, timeout=2)


def identity_of(method, target, assertion):
    if jwt.get_unverified_header(assertion).get("typ") != "gateway+jwt":
        raise jwt.InvalidTokenError("not an assertion")
    claims = jwt.decode(
        assertion,
        KEYS.get_signing_key_from_jwt(assertion),
        algorithms=["ES256"],
        issuer="portcullis",
        audience="shop",
        leeway=30,
        options={"require": ["exp", "iat", "htm", "htu"]},
    )
    if claims["htm"] != method or claims["htu"] != target:
        raise jwt.InvalidTokenError("wrong request")
    return claims


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            who = identity_of(self.command, self.path, self.headers.get("X-Gateway-Assertion", ""))
        except jwt.PyJWKClientConnectionError:
            self.send_response(503)
            self.send_header("Retry-After", "2")
            self.end_headers()
            return
        except (jwt.InvalidTokenError, jwt.PyJWKClientError):
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate", 'Gateway-Assertion realm="https://api.example.com", error="gateway_required"'
            )
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        tenant = who.get("claims", {}).get("tenant")
        self.wfile.write(f"{who.get('sub')} {','.join(who.get('roles', []))} {tenant}".encode())

    do_POST = do_GET


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
