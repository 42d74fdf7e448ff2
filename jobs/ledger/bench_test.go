package ledger

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// One operation is a record entered, leased at once, and settled as acknowledged, in batches of 512: the fast way.
func BenchmarkEnterSettle(b *testing.B) {
	eachDatabase(b, func(b *testing.B, s *stage) {
		ctx := context.Background()
		for b.Loop() {
			b.StopTimer()
			page := make([]jobs.Delivery, 512)
			for i := range page {
				page[i] = s.record(fmt.Sprintf("w%d", i%20), jobs.Sending)
				page[i].SeenAt = s.Now()
			}
			stream := s.stream("Lead")
			b.StartTimer()
			_, err := s.Enter(ctx, jobs.Entries{Type: "Lead", Version: stream.Version, Bookmark: "b", Lease: s.token, Deliveries: page})
			s.must(err)
			outcomes := make([]jobs.Outcome, len(page))
			for i, d := range page {
				d.Lease = s.token
				outcomes[i] = s.acked(d)
			}
			s.settle(outcomes...)
		}
		b.ReportMetric(float64(b.N*512)/b.Elapsed().Seconds(), "records/s")
	})
}

// One operation is 512 pending records claimed and put off.
func BenchmarkClaimPutOff(b *testing.B) {
	eachDatabase(b, func(b *testing.B, s *stage) {
		var page []jobs.Delivery
		for i := range 10_000 {
			page = append(page, s.record(fmt.Sprintf("w%d", i%20), jobs.Pending))
		}
		s.enter("", page...)
		for b.Loop() {
			claimed := s.claim(s.token, 512, 512)
			outcomes := make([]jobs.Outcome, len(claimed))
			for i, d := range claimed {
				outcomes[i] = s.failed(d, 0)
			}
			s.settle(outcomes...)
			s.pass(time.Millisecond)
		}
		b.ReportMetric(float64(b.N*512)/b.Elapsed().Seconds(), "records/s")
	})
}

func eachDatabase(b *testing.B, f func(b *testing.B, s *stage)) {
	for _, name := range []string{"postgres", "sqlite"} {
		b.Run(name, func(b *testing.B) {
			s := &stage{t: b, dsn: address(b, name), clock: &clock{now: start}}
			s.Ledger = s.open()
			ids := make([]string, 20)
			for i := range ids {
				ids[i] = fmt.Sprintf("w%d", i)
			}
			s.webhooks(ids...)
			s.token = s.lease()
			f(b, s)
		})
	}
}
