package admin

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// FuzzAuthorization: nobody is let in but who sends the token, as a bearer or as a browser's password.
func FuzzAuthorization(f *testing.F) {
	const token = "0123456789abcdef"
	for _, header := range []string{
		"Bearer " + token, "bearer  " + token + " ", "Bearer " + token + "x", "Bearer", "Bearer ", token, "Token " + token, "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+token)),
		"Basic " + base64.StdEncoding.EncodeToString([]byte(token+":")), "Basic !", "Basic " + token, "Bearer\t" + token, "Bearer " + token + ", Bearer x",
	} {
		f.Add(header, "GET")
		f.Add(header, "DELETE")
	}
	a, _ := stubbed(f, nil)
	f.Fuzz(func(t *testing.T, header, method string) {
		if method != "GET" && method != "DELETE" {
			return
		}
		r := httptest.NewRequest(method, "/api/v1/webhooks/w", http.NoBody)
		r.Header["Authorization"] = []string{header}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		in := w.Code != http.StatusUnauthorized && w.Code != http.StatusForbidden
		scheme, rest, _ := strings.Cut(header, " ")
		sent := strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(rest) == token
		if raw, err := base64.StdEncoding.DecodeString(rest); strings.EqualFold(scheme, "Basic") && err == nil {
			_, password, _ := strings.Cut(string(raw), ":")
			sent = sent || password == token
		}
		if in != sent {
			t.Fatalf("Authorization: %q is let in: %v", header, in)
		}
		if !in && (!json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), token)) {
			t.Fatalf("HTTP %d\n%s", w.Code, w.Body)
		}
	})
}

// FuzzHost: without a token no page is answered whose name may lead here: a Host is an address of this machine, or the one
// that is listened on.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"localhost", "LOCALHOST:8787", "127.0.0.1", "127.9.9.9:80", "[::1]:8787", "::1", "[::ffff:127.0.0.1]", "localhost.", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1:8787",
		"admin.example:8787", "", ":8787", "[", "0.0.0.0", "[localhost]", "127.1", "0x7f.1", "[127.0.0.1]",
	} {
		f.Add(host)
	}
	const listen = "admin.example:8787"
	f.Fuzz(func(t *testing.T, host string) {
		if !ours(host, listen) || strings.EqualFold(host, listen) {
			return
		}
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		name = strings.NewReplacer("[", "", "]", "").Replace(name)
		if a, err := netip.ParseAddr(name); !strings.EqualFold(name, "localhost") && (err != nil || !a.Unmap().IsLoopback()) {
			t.Fatalf("%q is taken for this machine", host)
		}
	})
}

// FuzzQuery: whatever is asked for in a path or a query is answered, or refused with a problem.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		"webhook=w&state=dead&limit=10", "limit=-1", "limit=99999999999999999999", "after=1.x", "state=gone", "chatbot=%00&type=%ff", "row=';drop+table--", "a=%zz", "limit=1&limit=2", "&&&=;", "reveal=true",
	} {
		f.Add(query, "w")
	}
	for _, id := range []string{"0199d8f2-6f0e-7c3e-8b1a-111111111111", "..%2f..", "%00", "w/key", "W", "😀", strings.Repeat("a", 300), "."} {
		f.Add("", id)
	}
	a, _ := stubbed(f, nil)
	f.Fuzz(func(t *testing.T, query, id string) {
		for _, path := range []string{"/api/v1/deliveries", "/api/v1/runs", "/api/v1/webhooks", "/api/v1/deliveries/" + id, "/api/v1/webhooks/" + id, "/api/v1/runs/" + id} {
			r := httptest.NewRequest("GET", "/", http.NoBody)
			if err := r.ParseForm(); err != nil {
				t.Fatal(err)
			}
			parsed, err := r.URL.Parse(path)
			if err != nil {
				continue // no request comes so far
			}
			parsed.RawQuery = query
			r.URL, r.Form = parsed, nil
			r.Header.Set("Authorization", "Bearer 0123456789abcdef")
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code < 200 || w.Code >= 300 && w.Code < 400 && w.Header().Get("Location") == "" {
				t.Fatalf("%s?%s: HTTP %d\n%s", path, query, w.Code, w.Body)
			}
			if w.Code >= 400 && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s?%s: HTTP %d is no problem\n%s", path, query, w.Code, w.Body)
			}
		}
	})
}
