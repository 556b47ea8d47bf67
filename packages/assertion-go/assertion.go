// Package assertion checks the assertion of the gateway Portcullis: who calls, for this request only. It uses the standard
// library only.
package assertion

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	header = "X-Gateway-Assertion"
	typ    = "gateway+jwt"
	issuer = "portcullis"

	// Seconds of clock difference that are tolerated.
	leewayS = 30

	// Longest time between iat and exp, in seconds: the gateway writes it.
	lifetimeS = 30

	// Bytes of an assertion: fits the identity of a token of 16 KB and the longest path and query.
	assertionBytes = 48 * 1024

	// Seconds after which a client may try again when the gateway's keys cannot be fetched.
	retryAfterS = "2"
)

// Algorithm is the signature algorithm of assertions with a public key.
type Algorithm string

const (
	ES256 Algorithm = "ES256"
	EdDSA Algorithm = "EdDSA"
	hs256 Algorithm = "HS256"
)

// Identity is the content of a verified assertion. The members about the user are empty on public routes.
type Identity struct {
	// Subject is the id of the user.
	Subject string   `json:"sub"`
	Email   string   `json:"email"`
	Roles   []string `json:"roles"`
	// Session is the id of the user's session.
	Session string `json:"sid"`
	// Claims are those of the user's token that the policy names, and its "iss".
	Claims map[string]json.RawMessage `json:"claims"`
	// ID is unique per assertion.
	ID        string `json:"jti"`
	RequestID string `json:"request_id"`
	// ContentDigest is that of the body (RFC 9530), if the policy asks for it.
	ContentDigest string `json:"content_digest"`
}

// Error is the answer to a request without a valid assertion. It holds nothing of the request.
type Error struct {
	// Status is 401, or 503 if the gateway's keys cannot be fetched.
	Status int
	// Header has the headers of the answer.
	Header http.Header
}

func (e *Error) Error() string {
	if e.Status == http.StatusServiceUnavailable {
		return "the gateway's keys cannot be fetched"
	}
	return "no valid assertion"
}

// Why a request is refused. Callers get an Error.
var (
	errRefused     = errors.New("refused")
	errUnavailable = errors.New("unavailable")
)

// keySource returns the key of a kid, errRefused or errUnavailable.
type keySource interface {
	key(kid string) (verifyKey, error)
}

// verifyKey reports whether a signature over an input is its own.
type verifyKey func(input, signature []byte) bool

// Verifier checks assertions for one upstream. Goroutines may share it.
type Verifier struct {
	audience  string
	algorithm Algorithm
	keys      keySource
	challenge string
	now       func() time.Time
}

// WithSecrets returns a Verifier by the secret ASSERTION_KEYS_<UPSTREAM>. The audience is the upstream's name in the
// gateway's policy, and gateway is the gateway's URL. An error holds no part of the secret.
func WithSecrets(audience, gateway, setting string) (*Verifier, error) {
	keys, err := readSecrets(setting)
	if err != nil {
		return nil, err
	}
	verifier, _, err := newVerifier(audience, gateway, hs256)
	if err != nil {
		return nil, err
	}
	verifier.keys = keys
	return verifier, nil
}

// WithPublicKeys returns a Verifier by the public keys of an algorithm, which it fetches from the gateway.
func WithPublicKeys(audience, gateway string, algorithm Algorithm) (*Verifier, error) {
	if algorithm != ES256 && algorithm != EdDSA {
		return nil, errors.New("assertion: the algorithm must be ES256 or EdDSA")
	}
	verifier, origin, err := newVerifier(audience, gateway, algorithm)
	if err != nil {
		return nil, err
	}
	verifier.keys = newPublishedKeys(origin+"/_gateway/jwks.json", algorithm)
	return verifier, nil
}

// newVerifier returns a Verifier without keys, and the gateway's origin.
func newVerifier(audience, gateway string, algorithm Algorithm) (*Verifier, string, error) {
	if audience == "" {
		return nil, "", errors.New("assertion: the audience must be the upstream's name")
	}
	parsed, err := url.Parse(gateway)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "https" && parsed.Scheme != "http") {
		return nil, "", errors.New("assertion: the gateway must be a URL such as https://api.example.com")
	}
	origin := parsed.Scheme + "://" + parsed.Host
	challenge := fmt.Sprintf(`Gateway-Assertion realm="%s", error="gateway_required"`, origin)
	return &Verifier{audience: audience, algorithm: algorithm, challenge: challenge, now: time.Now}, origin, nil
}

// Verify returns the identity of a request's caller, or an *Error.
func (v *Verifier) Verify(request *http.Request) (*Identity, error) {
	identity, err := v.verify(request)
	switch {
	case err == nil:
		return identity, nil
	case errors.Is(err, errUnavailable):
		return nil, &Error{http.StatusServiceUnavailable, http.Header{"Retry-After": {retryAfterS}}}
	default:
		return nil, &Error{http.StatusUnauthorized, http.Header{"Www-Authenticate": {v.challenge}}}
	}
}

// Require returns a handler that answers requests without a valid assertion, and passes others on with their Identity, for
// FromContext.
func (v *Verifier) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		identity, err := v.Verify(request)
		var refusal *Error
		if errors.As(err, &refusal) {
			for name, values := range refusal.Header {
				response.Header()[name] = values
			}
			response.WriteHeader(refusal.Status)
			return
		}
		next.ServeHTTP(response, request.WithContext(context.WithValue(request.Context(), contextKey{}, identity)))
	})
}

type contextKey struct{}

// FromContext returns the Identity of a request that passed Require, or nil.
func FromContext(ctx context.Context) *Identity {
	identity, _ := ctx.Value(contextKey{}).(*Identity)
	return identity
}

// claims are what is checked. A missing time is 0, which is no time of the gateway.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Issued   uint64 `json:"iat"`
	Expires  uint64 `json:"exp"`
	Method   string `json:"htm"`
	Target   string `json:"htu"`
}

func (v *Verifier) verify(request *http.Request) (*Identity, error) {
	values := request.Header.Values(header)
	if len(values) != 1 {
		return nil, errRefused
	}
	payload, err := v.open(values[0])
	if err != nil {
		return nil, err
	}
	var stated claims
	var identity Identity
	if json.Unmarshal(payload, &stated) != nil || json.Unmarshal(payload, &identity) != nil {
		return nil, errRefused
	}
	if stated.Issuer != issuer || stated.Audience != v.audience {
		return nil, errRefused
	}
	if stated.Expires < stated.Issued || stated.Expires-stated.Issued > lifetimeS {
		return nil, errRefused
	}
	now := v.now().Unix()
	if now < leewayS || stated.Issued > uint64(now+leewayS) || stated.Expires <= uint64(now-leewayS) {
		return nil, errRefused
	}
	// RequestURI is the target as received; a router may change URL.
	if stated.Method != request.Method || stated.Target != request.RequestURI {
		return nil, errRefused
	}
	return &identity, nil
}

// open returns the payload of a compact JWS (RFC 7515) after the check of its signature.
func (v *Verifier) open(assertion string) ([]byte, error) {
	if len(assertion) > assertionBytes {
		return nil, errRefused
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return nil, errRefused
	}
	var decoded [3][]byte
	for index, part := range parts {
		bytes, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return nil, errRefused
		}
		decoded[index] = bytes
	}
	var stated struct{ Alg, Typ, Kid string }
	if json.Unmarshal(decoded[0], &stated) != nil {
		return nil, errRefused
	}
	// The header never chooses the algorithm.
	if stated.Alg != string(v.algorithm) || stated.Typ != typ || stated.Kid == "" {
		return nil, errRefused
	}
	key, err := v.keys.key(stated.Kid)
	if err != nil {
		return nil, err
	}
	if !key([]byte(parts[0]+"."+parts[1]), decoded[2]) {
		return nil, errRefused
	}
	return decoded[1], nil
}
