"""Checks the assertion of the gateway Portcullis: who calls, for this request only."""

import base64
import binascii
from urllib.parse import urlsplit

import jwt

__all__ = ["AssertionRefused", "KeysUnavailable", "Verifier"]

_TYPE = "gateway+jwt"
_ISSUER = "portcullis"

# Seconds of clock difference that are tolerated.
_LEEWAY_S = 30

_SECRET_BYTES = 32

# Seconds that public keys are kept, and for one request for them.
_KEYS_S = 300
_FETCH_S = 2


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
    """Checks assertions for the upstream ``audience``.

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
        self._secrets = None if keys is None else _read_secrets(keys)
        self._algorithm = "HS256" if keys is not None else algorithm
        self._published = jwt.PyJWKClient(f"{origin}/_gateway/jwks.json", lifespan=_KEYS_S, timeout=_FETCH_S)

    def verify(self, method, target, assertion):
        """Returns the claims of the assertion for a request: its method, and its path with the query."""
        try:
            header = jwt.get_unverified_header(assertion or "")
            if header.get("typ") != _TYPE:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                assertion,
                self._key(header, assertion),
                algorithms=[self._algorithm],
                issuer=_ISSUER,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "htm", "htu"]},
            )
            if claims["htm"] != method or claims["htu"] != target:
                raise jwt.InvalidTokenError
            return claims
        except jwt.PyJWKClientConnectionError:
            raise KeysUnavailable from None
        except (jwt.InvalidTokenError, jwt.PyJWKClientError, KeyError):
            raise AssertionRefused(self._refused) from None

    def _key(self, header, assertion):
        if self._secrets is not None:
            return self._secrets[header.get("kid")]
        return self._published.get_signing_key_from_jwt(assertion)


def _read_secrets(keys):
    secrets = {}
    for item in keys.split(","):
        kid, _, text = item.strip().partition(":")
        try:
            secret = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (ValueError, binascii.Error):
            secret = b""
        if not kid or len(secret) != _SECRET_BYTES:
            raise ValueError("keys must be kid:base64url-of-32-bytes, or two with a comma")
        secrets[kid] = secret
    return secrets
