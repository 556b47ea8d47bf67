package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

type claims struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	Method   string   `json:"htm"`
	Target   string   `json:"htu"`
	Subject  string   `json:"sub"`
	Roles    []string `json:"roles"`
}

// Seconds of clock difference that are tolerated.
const leeway = 30

var errNotOurs = errors.New("no assertion for this request")

func readKeys() map[string][]byte {
	keys := map[string][]byte{}
	for _, item := range strings.Split(os.Getenv("ASSERTION_KEYS_SHOP"), ",") {
		kid, secret, _ := strings.Cut(strings.TrimSpace(item), ":")
		key, err := base64.RawURLEncoding.DecodeString(secret)
		if err != nil || len(key) != 32 {
			log.Fatal("ASSERTION_KEYS_SHOP is not kid:base64url-of-32-bytes")
		}
		keys[kid] = key
	}
	return keys
}

func decode(part string, into any) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func identityOf(keys map[string][]byte, request *http.Request) (*claims, error) {
	values := request.Header.Values("X-Gateway-Assertion")
	if len(values) != 1 {
		return nil, errNotOurs
	}
	parts := strings.Split(values[0], ".")
	if len(parts) != 3 {
		return nil, errNotOurs
	}
	var header struct{ Alg, Typ, Kid string }
	if err := decode(parts[0], &header); err != nil {
		return nil, err
	}
	key, known := keys[header.Kid]
	if !known || header.Alg != "HS256" || header.Typ != "gateway+jwt" {
		return nil, errNotOurs
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(parts[0] + "." + parts[1]))
	sent, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || !hmac.Equal(sent, mac.Sum(nil)) {
		return nil, errNotOurs
	}
	who := &claims{}
	if err := decode(parts[1], who); err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	if now < who.Issued-leeway || now >= who.Expires+leeway {
		return nil, errNotOurs
	}
	if who.Issuer != "portcullis" || who.Audience != "shop" ||
		who.Method != request.Method || who.Target != request.RequestURI {
		return nil, errNotOurs
	}
	return who, nil
}

func main() {
	keys := readKeys()
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		who, err := identityOf(keys, request)
		if err != nil {
			response.Header().Set("WWW-Authenticate", `Gateway-Assertion realm="https://api.example.com", error="gateway_required"`)
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(response, "%s %s", who.Subject, strings.Join(who.Roles, ","))
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
