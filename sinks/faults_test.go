package sinks

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
)

// TestFaults: what answers tell of an endpoint, beyond the one record.
func TestFaults(t *testing.T) {
	type told struct {
		Reason string
		Fault  jobs.Fault
		After  time.Duration
	}
	now := time.Unix(1700000000, 0)
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
		want   told
	}{
		"no match":                 {200, nil, `{"status":"queued"}`, told{"ack_mismatch", jobs.FaultUnmatched, 0}},
		"no JSON":                  {200, nil, `ok`, told{"not_json", jobs.FaultUnmatched, 0}},
		"a refused record":         {400, nil, ``, told{"http_400", jobs.FaultRecord, 0}},
		"a record too many":        {409, nil, ``, told{"http_409", jobs.FaultRecord, 0}},
		"gone":                     {410, nil, ``, told{"http_410", jobs.FaultGone, 0}},
		"busy":                     {429, http.Header{"Retry-After": {"120"}}, ``, told{"http_429", jobs.FaultDown, 2 * time.Minute}},
		"busy until":               {503, http.Header{"Retry-After": {now.Add(time.Hour).UTC().Format(http.TimeFormat)}}, ``, told{"http_503", jobs.FaultDown, time.Hour}},
		"busy until long ago":      {503, http.Header{"Retry-After": {now.Add(-time.Hour).UTC().Format(http.TimeFormat)}}, ``, told{"http_503", jobs.FaultDown, 0}},
		"busy, nobody knows when":  {503, http.Header{"Retry-After": {"soon"}}, ``, told{"http_503", jobs.FaultDown, 0}},
		"busy for ever":            {503, http.Header{"Retry-After": {"99999999999999999999"}}, ``, told{"http_503", jobs.FaultDown, (1<<31 - 1) * time.Second}},
		"busy until the year 9999": {503, http.Header{"Retry-After": {"Fri, 31 Dec 9999 23:59:59 GMT"}}, ``, told{"http_503", jobs.FaultDown, 1<<63 - 1}},
		"busy for a part of one":   {503, http.Header{"Retry-After": {"1.5"}}, ``, told{"http_503", jobs.FaultDown, 0}},
		"busy for two times":       {429, http.Header{"Retry-After": {"60", "120"}}, ``, told{"http_429", jobs.FaultDown, time.Minute}},
		"busy for minus one":       {503, http.Header{"Retry-After": {"-1"}}, ``, told{"http_503", jobs.FaultDown, 0}},
		"of another status":        {500, http.Header{"Retry-After": {"120"}}, ``, told{"http_500", jobs.FaultDown, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for key, values := range tt.header {
					w.Header()[key] = values
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			h := newSink(t, Options{AllowHTTP: true, AllowPrivate: true, Clock: func() time.Time { return now }})
			_, err := h.Push(t.Context(), jobs.Request{
				Webhook: &jobs.Webhook{URL: jobs.Secret(server.URL), Dialect: DefaultDialect, SignKey: "k"}, ID: uuid.New(), Body: []byte("{}"), Attempt: 1,
			})
			refusal, ok := errors.AsType[*jobs.RefusedError](err)
			if !ok {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, told{refusal.Reason, refusal.Fault, refusal.RetryAfter}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for reason, want := range map[string]jobs.Fault{
		ReasonConnect: jobs.FaultDown, ReasonTLS: jobs.FaultDown, ReasonTimeout: jobs.FaultDown, ReasonDNS: jobs.FaultDown,
		ReasonReset: jobs.FaultDown, ReasonLocal: jobs.FaultRecord, ReasonRedirect: jobs.FaultRecord,
	} {
		if got := refused(reason, 0, "").Fault; got != want {
			t.Errorf("%s tells %q, want %q", reason, got, want)
		}
	}
}
