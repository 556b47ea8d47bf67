"""Credentials for the fuzzing of the services (stack/openapi.test.js): an administrator's
token, a service's token, or somebody's who may lose it."""

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
import uuid

import schemathesis
from hypothesis import strategies as st

EDGE = os.environ["FUZZ_EDGE"]
AUTH = os.environ["FUZZ_AUTH"]
SERVICE = os.environ["FUZZ_SERVICE"]
SECRET = os.environ["FUZZ_SERVICE_SECRET"]
AUDIENCE = os.environ["FUZZ_AUDIENCE"]
EMAIL = os.environ["FUZZ_EMAIL"]
PASSWORD = os.environ["FUZZ_PASSWORD"]

# What ends the session or counts wrong passwords is asked by an account of its own.
OF_ITS_OWN = {"logout", "changePassword"}


def ask(method, url, body=None, headers=None):
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}


def log_in(email, password):
    status, tokens = ask("POST", f"{EDGE}/api/v1/auth/login", {"email": email, "password": password})
    if status != 200:
        raise RuntimeError(f"the login of the fuzzing's own account was answered with {status}")
    return tokens["access_token"]


def administrator():
    # Whoever is fuzzed as an administrator takes roles and accounts away, their own as well.
    command = [os.environ["FUZZ_PROGRAM"], "admin", "create", "--email", EMAIL]
    for more in (["--promote", "--keep-password"], ["--password-file", "-"]):
        done = subprocess.run(
            command + more, input=f"{PASSWORD}\n", text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if done.returncode == 0:
            return log_in(EMAIL, PASSWORD)
    raise RuntimeError("the administrator of the fuzzing can neither be promoted nor made")


def somebody():
    email = f"fuzz-{uuid.uuid4()}@example.com"
    status, _ = ask("POST", f"{EDGE}/api/v1/auth/register", {"email": email, "password": PASSWORD})
    if status != 201:
        raise RuntimeError(f"the registration of an account was answered with {status}")
    return log_in(email, PASSWORD)


def basic():
    return "Basic " + base64.b64encode(f"{SERVICE}:{SECRET}".encode()).decode()


def service_token():
    form = f"grant_type=client_credentials&audience={AUDIENCE}".encode()
    headers = {"Authorization": basic(), "Content-Type": "application/x-www-form-urlencoded"}
    status, answer = ask("POST", f"{AUTH}/api/v1/auth/token", form, headers)
    if status != 200:
        raise RuntimeError(f"the service's token was answered with {status}")
    return answer["access_token"]


class Held:
    """A token of a role, that is asked for again when it is over."""

    def __init__(self, make, role):
        self.make = make
        self.role = role
        self.token = None

    def live(self):
        if self.token is None or not self.is_good():
            self.token = self.make()
        return self.token

    def is_good(self):
        status, answer = ask("GET", f"{EDGE}/api/v1/auth/me", headers={"Authorization": f"Bearer {self.token}"})
        return status == 200 and self.role in answer["user"]["roles"]


admin = Held(administrator, "admin")
other = Held(somebody, "user")


@schemathesis.auth(refresh_interval=None)
class Credentials:
    def get(self, case, context):
        operation = context.operation.definition.raw
        schemes = [name for one in operation.get("security", []) for name in one]
        if "serviceCredentials" in schemes:
            return basic()
        if "serviceToken" in schemes:
            return f"Bearer {service_token()}"
        if "accessToken" in schemes:
            held = other if operation["operationId"] in OF_ITS_OWN else admin
            return f"Bearer {held.live()}"
        return None

    def set(self, case, data, context):
        if data is not None:
            case.headers = case.headers or {}
            case.headers["Authorization"] = data


# Cursors are the list's own; what a client makes up is none.
schemathesis.openapi.format("cursor", st.nothing())

# RFC 9110, section 8.8.3. What is not one is tried by tests/services/preconditions.rs.
TAG = st.from_regex(r'(W/)?"[!#-~]{0,20}"', fullmatch=True)
TAGS = st.lists(TAG, min_size=1, max_size=3).map(", ".join)
schemathesis.openapi.format("entity-tags", st.one_of(st.just("*"), st.just('"1"'), TAGS))


@schemathesis.hook
def filter_case(context, case):
    """The runtime of the gateway drops an If-Match without a value, before the gateway sees it."""
    headers = case.headers or {}
    return not any(name.lower() == "if-match" and value.strip() == "" for name, value in headers.items())


@schemathesis.hook
def map_body(context, body):
    """To JSON Schema, 33.0 is an integer; nobody's JSON library writes one so."""
    if isinstance(body, dict):
        whole = lambda value: int(value) if isinstance(value, float) and value.is_integer() else value
        return {name: whole(value) for name, value in body.items()}
    return body
