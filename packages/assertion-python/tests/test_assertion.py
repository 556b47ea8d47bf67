"""The table of tests/vectors, and when keys are fetched: python -m unittest discover packages/assertion-python/tests"""

import datetime
import json
import sys
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

PACKAGE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PACKAGE))

import portcullis_assertion  # noqa: E402
from portcullis_assertion import AssertionRefused, KeysUnavailable, Verifier  # noqa: E402

TABLE = json.loads((PACKAGE.parents[1] / "tests" / "vectors" / "assertions.json").read_text())
AT = TABLE["cases"][0]["at"]


def at(seconds):
    """Sets PyJWT's clock."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(seconds, tz)

    return mock.patch("jwt.api_jwt.datetime", Clock)


class Gateway:
    """A server for the key set, which counts its requests."""

    def __init__(self):
        self.body = json.dumps(TABLE["jwks"])
        self.fetches = 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                gateway.fetches += 1
                self.send_response(200 if self.path == "/_gateway/jwks.json" and gateway.body is not None else 503)
                self.end_headers()
                self.wfile.write((gateway.body or "").encode())

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Table(unittest.TestCase):
    def test_cases(self):
        with Gateway() as gateway:
            verifiers = {name: Verifier(TABLE["audience"], gateway.url, algorithm=name) for name in ("ES256", "EdDSA")}
            verifiers["HS256"] = Verifier(TABLE["audience"], gateway.url, keys=TABLE["secrets"])
            for case in TABLE["cases"]:
                with self.subTest(f"{case['algorithm']}: {case['name']}"), at(case["at"]):
                    try:
                        verifiers[case["algorithm"]].verify(case["method"], case["target"], case["assertion"])
                        result = "ok"
                    except AssertionRefused:
                        result = "refused"
                    self.assertEqual(result, case["expected"])
            self.assertEqual(gateway.fetches, 2)

    def test_settings(self):
        for row in TABLE["settings"]:
            with self.subTest(row["name"]):
                if row["isValid"]:
                    Verifier("shop", "https://api.example.com", keys=row["setting"])
                else:
                    with self.assertRaises(ValueError):
                        Verifier("shop", "https://api.example.com", keys=row["setting"])

    def test_a_long_text_is_not_read(self):
        verifier = Verifier("shop", "https://api.example.com", keys=TABLE["secrets"])
        with mock.patch("jwt.get_unverified_header", side_effect=AssertionError):
            for text in (None, "x" * (48 * 1024 + 1)):
                with self.assertRaises(AssertionRefused):
                    verifier.verify("GET", "/", text)


class Fetches(unittest.TestCase):
    def setUp(self):
        self.gateway = self.enterContext(Gateway())
        self.now = 1000.0
        clock = mock.patch.object(portcullis_assertion, "time")
        self.enterContext(clock).monotonic.side_effect = lambda: self.now
        self.enterContext(at(AT))
        self.verifier = Verifier(TABLE["audience"], self.gateway.url)

    def result(self, name):
        case = next(one for one in TABLE["cases"] if (one["algorithm"], one["name"]) == ("ES256", name))
        try:
            self.verifier.verify(case["method"], case["target"], case["assertion"])
        except (AssertionRefused, KeysUnavailable) as refusal:
            return refusal.status
        return 200

    def test_unknown_kids_cause_one_fetch_per_cool_down(self):
        self.assertEqual(self.result("as made"), 200)
        for _ in range(50):
            self.assertEqual(self.result("of an unknown key"), 401)
        self.assertEqual(self.gateway.fetches, 1)
        self.now += 30
        for _ in range(50):
            self.assertEqual(self.result("of an unknown key"), 401)
        self.assertEqual(self.gateway.fetches, 2)

    def test_an_assertion_that_is_refused_by_its_form_causes_none(self):
        for name in ("without kid", "an access token", "by the public key as a secret", "with alg none", "two dots"):
            self.assertEqual(self.result(name), 401)
        self.assertEqual(self.gateway.fetches, 0)

    def test_a_new_key_is_found_after_the_cool_down(self):
        keys = TABLE["jwks"]["keys"]
        self.gateway.body = json.dumps({"keys": [key for key in keys if key["kid"] == "e2"]})
        self.assertEqual(self.result("as made"), 401)
        self.gateway.body = json.dumps({"keys": keys})
        self.assertEqual(self.result("as made"), 401)
        self.now += 30
        self.assertEqual(self.result("as made"), 200)

    def test_keys_are_used_for_300_seconds(self):
        self.assertEqual(self.result("as made"), 200)
        self.gateway.body = None
        self.now += 299
        self.assertEqual(self.result("as made"), 200)
        self.assertEqual(self.gateway.fetches, 1)
        self.now += 1
        self.assertEqual(self.result("as made"), 503)

    def test_after_a_failed_fetch_there_is_a_pause(self):
        for body in (None, "", "[]", "{}", '{"keys":[]}'):
            with self.subTest(body):
                before = self.gateway.fetches
                self.gateway.body = body
                for _ in range(5):
                    self.assertEqual(self.result("as made"), 503)
                self.assertEqual(self.gateway.fetches, before + 1)
                self.now += 2
        self.gateway.body = json.dumps(TABLE["jwks"])
        self.assertEqual(self.result("as made"), 200)

    def test_a_fetch_that_fails_for_an_unknown_kid_does_not_take_the_keys(self):
        self.assertEqual(self.result("as made"), 200)
        self.gateway.body = '{"keys":[]}'
        self.now += 31
        self.assertEqual(self.result("of an unknown key"), 503)
        self.assertEqual(self.result("as made"), 200)


if __name__ == "__main__":
    unittest.main()
