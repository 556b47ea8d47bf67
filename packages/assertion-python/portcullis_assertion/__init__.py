"""Checks the assertion of the gateway Portcullis: who calls, for this request only."""

import base64
import http.client
import re
import threading
import time
from urllib.parse import urlsplit

import jwt

__all__ = ["AssertionRefused", "KeysUnavailable", "Verifier"]

_TYPE = "gateway+jwt"
_ISSUER = "portcullis"

# Seconds of clock difference that are tolerated.
_LEEWAY_S = 30

# Longest time between ``iat`` and ``exp``, in seconds: the gateway writes it.
_LIFETIME_S = 30

# Characters of an assertion: fits the identity of a token of 16 KB and the longest path and query.
_ASSERTION_CHARS = 48 * 1024

# A ``kid``, and the base64url of 32 bytes.
_SECRET = re.compile(r"([^:]+):([A-Za-z0-9_-]{43})")

# Secrets that are valid at once, for rotation.
_SECRETS = 2

# Seconds that public keys are used, and for one request for them.
_KEYS_S = 300
_FETCH_S = 2

# Seconds between two fetches for unknown kids, which anyone can invent, and between a failed fetch and the next.
_COOL_DOWN_S = 30
_BACK_OFF_S = 2


class AssertionRefused(Exception):
    """The request has no valid assertion: answer 401 with ``headers``. Holds nothing of the request."""

    status = 401

    def __init__(self, headers):
        super().__init__("no valid assertion")
        self.headers = headers


class KeysUnavailable(Exception):
    """The gateway's public keys cannot be fetched: answer 503 with ``headers``."""

    status = 503
    headers = {"Retry-After": "2"}

    def __init__(self):
        super().__init__("the gateway's keys cannot be fetched")


class Verifier:
    """Checks assertions for the upstream ``audience``. Threads may share it.

    ``keys`` is the secret ASSERTION_KEYS_<UPSTREAM>; without it, the public keys of ``gateway`` are fetched.
    """

    def __init__(self, audience, gateway, keys=None, algorithm="ES256"):
        if not audience:
            raise ValueError("audience must be the upstream's name")
        if algorithm not in ("ES256", "EdDSA"):
            raise ValueError("algorithm must be ES256 or EdDSA")
        url = urlsplit(gateway)
        origin = f"{url.scheme}://{url.netloc}"
        self._audience = audience
        self._refused = {"WWW-Authenticate": f'Gateway-Assertion realm="{origin}", error="gateway_required"'}
        if keys is None:
            self._algorithm = algorithm
            self._key = _PublishedKeys(f"{origin}/_gateway/jwks.json", algorithm).get
        else:
            self._algorithm = "HS256"
            self._key = _read_secrets(keys).get

    def verify(self, method, target, assertion):
        """Returns the claims of the assertion for a request: its method, and its path with the query."""
        try:
            if assertion is None or len(assertion) > _ASSERTION_CHARS:
                raise jwt.InvalidTokenError
            header = jwt.get_unverified_header(assertion)
            kid = header.get("kid")
            if header.get("typ") != _TYPE or header.get("alg") != self._algorithm or not isinstance(kid, str):
                raise jwt.InvalidTokenError
            key = self._key(kid)
            if key is None:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                assertion,
                key,
                algorithms=[self._algorithm],
                issuer=_ISSUER,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "htm", "htu"]},
            )
            issued, expires = claims["iat"], claims["exp"]
            # PyJWT also accepts texts.
            if type(issued) is not int or type(expires) is not int or not 0 <= expires - issued <= _LIFETIME_S:
                raise jwt.InvalidTokenError
            if claims["htm"] != method or claims["htu"] != target:
                raise jwt.InvalidTokenError
            return claims
        except jwt.InvalidTokenError:
            raise AssertionRefused(self._refused) from None


class _PublishedKeys:
    """The gateway's public keys for one algorithm, by kid."""

    def __init__(self, url, algorithm):
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_FETCH_S)
        self._algorithm = algorithm
        self._lock = threading.Lock()
        # The keys, and when they were fetched; and when the last fetch failed.
        self._held = ({}, float("-inf"))
        self._failed_at = float("-inf")

    def get(self, kid):
        """Returns the key, or None if the gateway does not publish it."""
        keys, fetched_at = self._held
        age = time.monotonic() - fetched_at
        # Without the lock: a fetch for an unknown kid delays no other request.
        if age < _COOL_DOWN_S or (kid in keys and age < _KEYS_S):
            return keys.get(kid)
        with self._lock:
            # Another thread may have fetched them.
            if self._held[1] == fetched_at:
                self._fetch()
            return self._held[0].get(kid)

    def _fetch(self):
        if time.monotonic() - self._failed_at < _BACK_OFF_S:
            raise KeysUnavailable
        try:
            published = self._client.get_signing_keys()
            keys = {key.key_id: key for key in published if key.algorithm_name == self._algorithm}
        except (jwt.PyJWTError, OSError, ValueError, http.client.HTTPException):
            keys = {}
        # A set without a usable key never replaces a good one.
        if not keys:
            self._failed_at = time.monotonic()
            raise KeysUnavailable
        self._held = (keys, time.monotonic())


def _read_secrets(keys):
    items = keys.split(",")
    parsed = [_SECRET.fullmatch(item.strip()) for item in items]
    if None in parsed or len(items) > _SECRETS or len({item[1] for item in parsed}) < len(items):
        raise ValueError("keys must be kid:base64url-of-32-bytes, or two with a comma")
    return {kid: base64.urlsafe_b64decode(text + "=") for kid, text in (item.groups() for item in parsed)}
