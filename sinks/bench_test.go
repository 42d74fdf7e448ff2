package sinks_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/leadrelay/leadrelay/jobs"
	"github.com/leadrelay/leadrelay/sinks"
	"github.com/leadrelay/leadrelay/sinks/receiver"
)

func benchRecord() *jobs.Record {
	return &jobs.Record{
		Type: "Lead", Chatbot: "59001dd73709417321c58b11693183a2", Created: time.Unix(1700000000, 123456000),
		Fields: []jobs.Field{
			{Name: "FirstName", Value: "Zdeňka"},
			{Name: "LastName", Value: "Garcia"},
			{Name: "Email", Value: "test@qq.com"},
			{Name: "PhoneNumber", Value: "+420 777 123 456"},
			{Name: "Content", Value: "Please call me <tomorrow> at \"noon\"."},
			{Name: "SessionID", Value: int64(31305)},
			{Name: "URI", Value: "https://www.example.com/contact?from=chat"},
		},
	}
}

func benchCRM(b *testing.B) (*receiver.Receiver, *jobs.Webhook, *sinks.HTTP, []byte) {
	crm, err := receiver.New(receiver.Options{SignKeys: []jobs.Secret{"key"}})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(crm)
	w := &jobs.Webhook{ID: "w", URL: jobs.Secret(server.URL), SignKey: "key", Dialect: sinks.DefaultDialect, Ack: []string{"success", sinks.TestAnswer}}
	h, err := sinks.New(sinks.Options{AllowHTTP: true, AllowPrivate: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		h.Close()
		server.Close()
		crm.Close()
	})
	body, err := h.Encode(w, benchRecord(), time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(8)
	return crm, w, h, body
}

// BenchmarkPush is the sink; BenchmarkBare posts the same bodies with a plain http.Client, signed by Sign.
func BenchmarkPush(b *testing.B) {
	crm, w, h, body := benchCRM(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := h.Push(context.Background(), jobs.Request{Webhook: w, ID: uuid.New(), Body: body}); err != nil {
				b.Error(err)
			}
		}
	})
	if c := crm.Counts(); c.Unique != b.N || c.Acked != b.N {
		b.Errorf("%+v of %d", c, b.N)
	}
}

func BenchmarkBare(b *testing.B) {
	_, w, _, body := benchCRM(b)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	client := &http.Client{Timeout: 10 * time.Second, Transport: transport}
	b.Cleanup(client.CloseIdleConnections)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequest(http.MethodPost, w.URL.Reveal(), bytes.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Webhook-Id", uuid.NewString())
			r.Header.Set("X-Webhook-Signature", sinks.Sign(w.SignKey, time.Now(), body))
			res, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Error(res.Status)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	_, w, h, _ := benchCRM(b)
	rec := benchRecord()
	for b.Loop() {
		if _, err := h.Encode(w, rec, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	_, w, _, body := benchCRM(b)
	v, err := sinks.BuiltIn().NewVerifier(w.Dialect, []jobs.Secret{w.SignKey}, 0)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	h := http.Header{sinks.SignatureHeader: {sinks.Sign(w.SignKey, now, body)}}
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			sinks.Sign(w.SignKey, now, body)
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if err := v.Verify(h, body, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
