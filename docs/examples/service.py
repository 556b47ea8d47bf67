import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from portcullis_assertion import AssertionRefused, KeysUnavailable, Verifier

VERIFIER = Verifier("shop", "https://api.example.com", keys=os.environ["ASSERTION_KEYS_SHOP"])


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
        self.wfile.write(f"{who.get('sub')} {','.join(who.get('roles', []))}".encode())

    do_POST = do_GET


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Service).serve_forever()
