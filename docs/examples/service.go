package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"portcullis/assertion"
)

func main() {
	verifier, err := assertion.WithSecrets("shop", "https://api.example.com", os.Getenv("ASSERTION_KEYS_SHOP"))
	if err != nil {
		log.Fatal(err)
	}
	handler := http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		who := assertion.FromContext(request.Context())
		fmt.Fprintf(response, "%s %s", who.Subject, strings.Join(who.Roles, ","))
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), verifier.Require(handler)))
}
