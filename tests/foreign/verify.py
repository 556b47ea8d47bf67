"""Verifies tokens with PyJWT. Reads {"jwks", "tokens": {name: token}, "algorithms",
"audience", "issuer", "require"} from standard input and writes {name: claims or the name of the
error}."""

import json
import sys

import jwt


def main():
    wanted = json.load(sys.stdin)
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(wanted["jwks"]).keys}
    verdicts = {}
    for name, token in wanted["tokens"].items():
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            verdicts[name] = jwt.decode(
                token,
                keys[kid],
                algorithms=wanted["algorithms"],
                audience=wanted["audience"],
                issuer=wanted["issuer"],
                options={"require": wanted.get("require", ["exp", "iat", "nbf", "sub", "jti"])},
            )
        except Exception as error:
            verdicts[name] = type(error).__name__
    json.dump(verdicts, sys.stdout)


main()
