package assertion

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	secretBytes = 32

	// Secrets that are valid at once, for rotation.
	secretsAtOnce = 2

	// How long public keys are used.
	keysFor = 300 * time.Second

	// Pause between two fetches for unknown kids, which anyone can invent.
	coolDown = 30 * time.Second

	// Pause between a failed fetch and the next.
	backOff = 2 * time.Second

	// Time for one fetch of the keys.
	fetchFor = 2 * time.Second

	// Bytes of a key set, and keys of it that are read.
	keySetBytes = 128 * 1024
	keysOfSet   = 100

	// Bytes of a coordinate on P-256.
	coordinateBytes = 32
)

var errSecrets = errors.New("assertion: the setting must be kid:base64url-of-32-bytes, or two with a comma")

// secrets are HMAC keys by kid.
type secrets map[string][]byte

func readSecrets(text string) (secrets, error) {
	items := strings.Split(text, ",")
	read := secrets{}
	for _, item := range items {
		kid, secret, _ := strings.Cut(strings.TrimSpace(item), ":")
		key, err := base64.RawURLEncoding.DecodeString(secret)
		if err != nil || kid == "" || len(key) != secretBytes {
			return nil, errSecrets
		}
		read[kid] = key
	}
	if len(items) > secretsAtOnce || len(read) < len(items) {
		return nil, errSecrets
	}
	return read, nil
}

func (s secrets) key(kid string) (verifyKey, error) {
	secret, known := s[kid]
	if !known {
		return nil, errRefused
	}
	return func(input, signature []byte) bool {
		mac := hmac.New(sha256.New, secret)
		mac.Write(input)
		return hmac.Equal(signature, mac.Sum(nil))
	}, nil
}

// publishedKeys are the gateway's public keys for one algorithm.
type publishedKeys struct {
	url       string
	algorithm Algorithm
	client    *http.Client
	now       func() time.Time

	held atomic.Pointer[keySet]
	// fetching guards the fields below, and lets one goroutine fetch.
	fetching sync.Mutex
	failedAt time.Time
}

type keySet struct {
	keys      map[string]verifyKey
	fetchedAt time.Time
}

func newPublishedKeys(url string, algorithm Algorithm) *publishedKeys {
	client := &http.Client{
		Timeout: fetchFor,
		// Another host could choose the keys.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &publishedKeys{url: url, algorithm: algorithm, client: client, now: time.Now}
}

func (p *publishedKeys) key(kid string) (verifyKey, error) {
	held := p.held.Load()
	// Without the lock: a fetch for an unknown kid delays no other request.
	if held != nil {
		age := p.now().Sub(held.fetchedAt)
		key, known := held.keys[kid]
		if known && age < keysFor {
			return key, nil
		}
		if age < coolDown {
			return nil, errRefused
		}
	}
	held, err := p.newerThan(held)
	if err != nil {
		return nil, err
	}
	if key, known := held.keys[kid]; known {
		return key, nil
	}
	return nil, errRefused
}

// newerThan returns keys that were fetched after `seen`.
func (p *publishedKeys) newerThan(seen *keySet) (*keySet, error) {
	p.fetching.Lock()
	defer p.fetching.Unlock()
	// Another goroutine may have fetched them.
	if held := p.held.Load(); held != seen {
		return held, nil
	}
	if !p.failedAt.IsZero() && p.now().Sub(p.failedAt) < backOff {
		return nil, errUnavailable
	}
	keys := p.fetch()
	// A set without a usable key never replaces a good one.
	if len(keys) == 0 {
		p.failedAt = p.now()
		return nil, errUnavailable
	}
	held := &keySet{keys, p.now()}
	p.held.Store(held)
	return held, nil
}

// fetch returns the gateway's keys; none if they cannot be fetched. A caller that goes away does not end it: others wait for it.
func (p *publishedKeys) fetch() map[string]verifyKey {
	response, err := p.client.Get(p.url)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, keySetBytes+1))
	if err != nil || response.StatusCode != http.StatusOK || len(body) > keySetBytes {
		return nil
	}
	return readKeySet(body, p.algorithm)
}

// jwk has the members of a public key (RFC 7517, RFC 7518, RFC 8037).
type jwk struct{ Kty, Crv, Kid, Alg, Use, X, Y string }

// readKeySet returns the keys of a set for one algorithm, and skips others.
func readKeySet(body []byte, algorithm Algorithm) map[string]verifyKey {
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(body, &set) != nil {
		return nil
	}
	keys := map[string]verifyKey{}
	for _, text := range set.Keys {
		var stated jwk
		if json.Unmarshal(text, &stated) != nil || len(keys) >= keysOfSet {
			continue
		}
		if key := stated.read(algorithm); key != nil {
			keys[stated.Kid] = key
		}
	}
	return keys
}

func (k jwk) read(algorithm Algorithm) verifyKey {
	isForUse := k.Kid != "" && (k.Use == "" || k.Use == "sig") && (k.Alg == "" || k.Alg == string(algorithm))
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if !isForUse || err != nil {
		return nil
	}
	switch {
	case algorithm == EdDSA && k.Kty == "OKP" && k.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize:
		return func(input, signature []byte) bool { return ed25519.Verify(x, input, signature) }
	case algorithm == ES256 && k.Kty == "EC" && k.Crv == "P-256":
		y, err := base64.RawURLEncoding.DecodeString(k.Y)
		if err != nil || len(x) != coordinateBytes || len(y) != coordinateBytes {
			return nil
		}
		return ecKey(append(append([]byte{4}, x...), y...))
	}
	return nil
}

// ecKey returns the key of an uncompressed point, or nil if that is not on P-256.
func ecKey(point []byte) verifyKey {
	type algorithmIdentifier struct{ Algorithm, Curve asn1.ObjectIdentifier }
	// x509 checks the point.
	der, err := asn1.Marshal(struct {
		Algorithm algorithmIdentifier
		Key       asn1.BitString
	}{
		algorithmIdentifier{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	if err != nil {
		return nil
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	public, isEC := parsed.(*ecdsa.PublicKey)
	if err != nil || !isEC {
		return nil
	}
	return func(input, signature []byte) bool {
		if len(signature) != 2*coordinateBytes {
			return false
		}
		digest := sha256.Sum256(input)
		r := new(big.Int).SetBytes(signature[:coordinateBytes])
		s := new(big.Int).SetBytes(signature[coordinateBytes:])
		return ecdsa.Verify(public, digest[:], r, s)
	}
}
