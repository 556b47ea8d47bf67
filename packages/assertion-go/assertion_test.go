package assertion

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type vector struct {
	Name, Algorithm, Method, Target, Assertion, Expected string
	At                                                   int64
}

var table struct {
	Audience, Secrets string
	Jwks              json.RawMessage
	Settings          []struct {
		Name, Setting string
		IsValid       bool
	}
	Cases []vector
}

// The table of all languages.
func TestMain(m *testing.M) {
	text, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", "assertions.json"))
	if err == nil {
		err = json.Unmarshal(text, &table)
	}
	if err != nil || len(table.Cases) == 0 {
		panic("the tests run in a checkout, which has tests/vectors/assertions.json")
	}
	os.Exit(m.Run())
}

// gateway serves a key set; "" is an answer of 503.
type gateway struct {
	*httptest.Server
	body    atomic.Value
	fetches atomic.Int64
}

func startGateway(t *testing.T) *gateway {
	started := &gateway{}
	started.body.Store(string(table.Jwks))
	started.Server = httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		started.fetches.Add(1)
		body := started.body.Load().(string)
		if request.URL.Path != "/_gateway/jwks.json" || body == "" {
			response.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(response, body)
	}))
	t.Cleanup(started.Close)
	return started
}

func (v vector) request() *http.Request {
	request := httptest.NewRequest(v.Method, v.Target, nil)
	request.Header.Set("X-Gateway-Assertion", v.Assertion)
	return request
}

func statusOf(verifier *Verifier, request *http.Request) int {
	_, err := verifier.Verify(request)
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return http.StatusOK
}

func find(t *testing.T, algorithm, name string) vector {
	for _, one := range table.Cases {
		if one.Algorithm == algorithm && one.Name == name {
			return one
		}
	}
	t.Fatalf("no case %s: %s", algorithm, name)
	return vector{}
}

func must(t *testing.T) func(*Verifier, error) *Verifier {
	return func(verifier *Verifier, err error) *Verifier {
		if err != nil {
			t.Fatal(err)
		}
		return verifier
	}
}

func TestTable(t *testing.T) {
	server := startGateway(t)
	verifiers := map[string]*Verifier{
		"HS256": must(t)(WithSecrets(table.Audience, server.URL, table.Secrets)),
		"ES256": must(t)(WithPublicKeys(table.Audience, server.URL, ES256)),
		"EdDSA": must(t)(WithPublicKeys(table.Audience, server.URL, EdDSA)),
	}
	for _, one := range table.Cases {
		verifier := verifiers[one.Algorithm]
		verifier.now = func() time.Time { return time.Unix(one.At, 0) }
		expected := map[string]int{"ok": http.StatusOK, "refused": http.StatusUnauthorized}[one.Expected]
		if status := statusOf(verifier, one.request()); status != expected {
			t.Errorf("%s: %s: %d", one.Algorithm, one.Name, status)
		}
	}
	if count := server.fetches.Load(); count != 2 {
		t.Errorf("%d fetches", count)
	}
}

func TestSettings(t *testing.T) {
	for _, one := range table.Settings {
		_, err := WithSecrets("shop", "https://api.example.com", one.Setting)
		if (err == nil) != one.IsValid {
			t.Errorf("%s: %v", one.Name, err)
		}
	}
	for _, wrong := range []func() (*Verifier, error){
		func() (*Verifier, error) { return WithSecrets("", "https://api.example.com", table.Secrets) },
		func() (*Verifier, error) { return WithSecrets("shop", "api.example.com", table.Secrets) },
		func() (*Verifier, error) { return WithPublicKeys("shop", "file:///etc", ES256) },
		func() (*Verifier, error) { return WithPublicKeys("shop", "https://api.example.com", "HS256") },
	} {
		if _, err := wrong(); err == nil {
			t.Error("a wrong setting is accepted")
		}
	}
}

func TestIdentity(t *testing.T) {
	verifier := must(t)(WithSecrets(table.Audience, "https://api.example.com", table.Secrets))
	good := find(t, "HS256", "as made")
	verifier.now = func() time.Time { return time.Unix(good.At, 0) }
	identity, err := verifier.Verify(good.request())
	if err != nil {
		t.Fatal(err)
	}
	if identity.Subject != "ada" || strings.Join(identity.Roles, ",") != "user,ops" || identity.Session != "s1" ||
		string(identity.Claims["tenant"]) != `"north"` || identity.RequestID == "" {
		t.Errorf("%+v", identity)
	}
	public, err := verifier.Verify(find(t, "HS256", "of a public route").request())
	if err != nil || public.Subject != "" || public.Roles != nil || public.Claims != nil {
		t.Errorf("%+v %v", public, err)
	}
}

func TestRequire(t *testing.T) {
	verifier := must(t)(WithSecrets(table.Audience, "https://api.example.com/path", table.Secrets))
	good := find(t, "HS256", "as made")
	verifier.now = func() time.Time { return time.Unix(good.At, 0) }
	handler := verifier.Require(http.StripPrefix("/orders", http.HandlerFunc(
		func(response http.ResponseWriter, request *http.Request) {
			_, _ = io.WriteString(response, FromContext(request.Context()).Subject)
		})))
	ask := func(change func(http.Header)) *httptest.ResponseRecorder {
		request, recorder := good.request(), httptest.NewRecorder()
		change(request.Header)
		handler.ServeHTTP(recorder, request)
		return recorder
	}
	if answer := ask(func(http.Header) {}); answer.Code != http.StatusOK || answer.Body.String() != "ada" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	for name, change := range map[string]func(http.Header){
		"none":     func(sent http.Header) { sent.Del("X-Gateway-Assertion") },
		"two":      func(sent http.Header) { sent.Add("X-Gateway-Assertion", good.Assertion) },
		"too long": func(sent http.Header) { sent.Set("X-Gateway-Assertion", strings.Repeat("x", assertionBytes+1)) },
	} {
		answer := ask(change)
		challenge := `Gateway-Assertion realm="https://api.example.com", error="gateway_required"`
		if answer.Code != http.StatusUnauthorized || answer.Header().Get("WWW-Authenticate") != challenge {
			t.Errorf("%s: %d %v", name, answer.Code, answer.Header())
		}
	}
	if FromContext(good.request().Context()) != nil {
		t.Error("an identity without a check")
	}
}

// published returns a Verifier of a gateway, whose clock the test sets, and the status of a case.
func published(t *testing.T, server *gateway) (passes func(time.Duration), status func(string) int) {
	verifier := must(t)(WithPublicKeys(table.Audience, server.URL, ES256))
	now := time.Unix(1000, 0)
	verifier.keys.(*publishedKeys).now = func() time.Time { return now }
	verifier.now = func() time.Time { return time.Unix(table.Cases[0].At, 0) }
	status = func(name string) int { return statusOf(verifier, find(t, "ES256", name).request()) }
	return func(pause time.Duration) { now = now.Add(pause) }, status
}

func expect(t *testing.T, what string, got, wanted int) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %d, not %d", what, got, wanted)
	}
}

func TestUnknownKidsCauseOneFetchPerCoolDown(t *testing.T) {
	server := startGateway(t)
	passes, status := published(t, server)
	expect(t, "the first", status("as made"), 200)
	for fetches := 1; fetches < 4; fetches++ {
		for range [50]int{} {
			expect(t, "an unknown key", status("of an unknown key"), 401)
		}
		expect(t, "fetches", int(server.fetches.Load()), fetches)
		passes(coolDown)
	}
}

func TestAnAssertionThatIsRefusedByItsFormCausesNoFetch(t *testing.T) {
	server := startGateway(t)
	_, status := published(t, server)
	for _, name := range []string{
		"without kid", "an access token", "by the public key as a secret", "with alg none", "two dots",
	} {
		expect(t, name, status(name), 401)
	}
	expect(t, "fetches", int(server.fetches.Load()), 0)
}

func TestKeysAreUsedForABoundedTime(t *testing.T) {
	server := startGateway(t)
	passes, status := published(t, server)
	expect(t, "fetched", status("as made"), 200)
	server.body.Store("")
	passes(keysFor - time.Second)
	expect(t, "before the end", status("as made"), 200)
	expect(t, "fetches", int(server.fetches.Load()), 1)
	passes(time.Second)
	expect(t, "at the end", status("as made"), 503)
}

func TestAfterAFailedFetchThereIsAPause(t *testing.T) {
	server := startGateway(t)
	passes, status := published(t, server)
	bodies := []string{"", "x", "[]", "{}", `{"keys":[]}`, strings.Repeat(" ", keySetBytes) + string(table.Jwks)}
	for index, body := range bodies {
		server.body.Store(body)
		for range [5]int{} {
			expect(t, "without keys", status("as made"), 503)
		}
		expect(t, "fetches", int(server.fetches.Load()), index+1)
		passes(backOff)
	}
	server.body.Store(string(table.Jwks))
	expect(t, "with keys", status("as made"), 200)
}

func TestAFetchThatFailsForAnUnknownKidDoesNotTakeTheKeys(t *testing.T) {
	server := startGateway(t)
	passes, status := published(t, server)
	expect(t, "fetched", status("as made"), 200)
	server.body.Store(`{"keys":[]}`)
	passes(coolDown)
	expect(t, "an unknown key", status("of an unknown key"), 503)
	expect(t, "a known key", status("as made"), 200)
}

func TestOneFetchServesAllThatWait(t *testing.T) {
	server := startGateway(t)
	_, status := published(t, server)
	var waiting sync.WaitGroup
	for range [20]int{} {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			expect(t, "at once", status("as made"), 200)
		}()
	}
	waiting.Wait()
	expect(t, "fetches", int(server.fetches.Load()), 1)
}

func TestPointsThatAreNotOnTheCurveAreSkipped(t *testing.T) {
	zeros := strings.Repeat("A", 43)
	set := `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"` + zeros + `","y":"` + zeros + `"}]}`
	if keys := readKeySet([]byte(set), ES256); len(keys) > 0 {
		t.Error("a point at no place of the curve is a key")
	}
}
