import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from portcullis_assertion import AssertionRefused, KeysUnavailable, Verifier

# Without `keys`, the gateway's public keys are fetched.
VERIFIER = Verifier("shop", os.environ["GATEWAY_URL"], algorithm="ES256")


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            who = VERIFIER.verify(self.command, self.path, self.headers.get("X-Gateway-Assertion"))
        except (AssertionRefused, KeysUnavailable) as refusal:
            self.send_response(refusal.status)
            for header in refusal.headers.items():
                self.send_header(*header)
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        tenant = who.get("claims", {}).get("tenant")
        self.wfile.write(f"{who.get('sub')} {','.join(who.get('roles', []))} {tenant}".encode())

    do_POST = do_GET


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
