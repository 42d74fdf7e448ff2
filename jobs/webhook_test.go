package jobs_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/leadrelay/leadrelay/jobs"
)

// FuzzMaskedURL: of a URL nothing is shown behind the first segment of its path, nor a user or password.
func FuzzMaskedURL(f *testing.F) {
	for _, raw := range []string{
		"https://crm.example.com/hooks/s3cr3t?k=v#f", "https://user:pass@crm.example.com/", "https://crm.example.com", "https://crm.example.com?k", "https://a//b",
		"https:opaque/secret", "not a url\x7f", "https://a/%2fsecret/x", "https://[::1]:443/a/b", "//user@host/a/b", "https://a/b/", "https://a/b/?#", "mailto:x@y",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		masked := jobs.MaskedURL(jobs.Secret(raw))
		if masked == jobs.Secret("").String() {
			return
		}
		whole, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q is no URL, and is shown as %q", raw, masked)
		}
		shown, cut := strings.CutSuffix(masked, "/…")
		path := strings.TrimPrefix(whole.EscapedPath(), "/")
		first, rest, _ := strings.Cut(path, "/")
		want := whole.Scheme + "://" + whole.Host
		if first != "" {
			want += "/" + first
		}
		if shown != want || cut != (rest != "" || whole.RawQuery != "") {
			t.Fatalf("%q is shown as %q, want %q and no more", raw, masked, want)
		}
	})
}
