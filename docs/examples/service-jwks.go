package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"portcullis/assertion"
)

func main() {
	verifier, err := assertion.WithPublicKeys("shop", os.Getenv("GATEWAY_URL"), assertion.ES256)
	if err != nil {
		log.Fatal(err)
	}
	handler := http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		who := assertion.FromContext(request.Context())
		var tenant string
		_ = json.Unmarshal(who.Claims["tenant"], &tenant)
		fmt.Fprintf(response, "%s %s %s", who.Subject, strings.Join(who.Roles, ","), tenant)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), verifier.Require(handler)))
}
