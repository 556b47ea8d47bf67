"""Signs tokens with PyJWT. Reads {"claims", "algorithms"} from standard input and
writes {"jwks", "tokens": {algorithm: token}} with keys made for this run."""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def make_key(algorithm):
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def main():
    wanted = json.load(sys.stdin)
    keys, tokens = [], {}
    for algorithm in wanted["algorithms"]:
        key = make_key(algorithm)
        kid = f"py-{algorithm}"
        public = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
        public.pop("key_ops", None)
        keys.append({**public, "kid": kid, "alg": algorithm, "use": "sig"})
        tokens[algorithm] = jwt.encode(
            wanted["claims"], key, algorithm=algorithm, headers={"kid": kid, "typ": "at+jwt"}
        )
    json.dump({"jwks": {"keys": keys}, "tokens": tokens}, sys.stdout)


main()
