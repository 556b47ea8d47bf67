import base64
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt

KEYS = {}
for item in os.environ["ASSERTION_KEYS_SHOP"].split(","):
    kid, secret = item.strip().split(":")
    KEYS[kid] = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))


def identity_of(method, target, assertion):
    header = jwt.get_unverified_header(assertion)
    if header.get("typ") != "gateway+jwt":
        raise jwt.InvalidTokenError("not an assertion")
    claims = jwt.decode(
        assertion,
        KEYS[header["kid"]],
        algorithms=["HS256"],
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
        except (jwt.InvalidTokenError, KeyError):
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate", 'Gateway-Assertion realm="https://api.example.com", error="gateway_required"'
            )
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{who.get('sub')} {','.join(who.get('roles', []))}".encode())

    do_POST = do_GET


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
