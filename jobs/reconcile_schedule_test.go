package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leadrelay/leadrelay/jobs"
)

// A journal is a log that several may write and a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// lines are the log's that hold a text, from msg on.
func (j *journal) lines(text string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	took := regexp.MustCompile(` took=\S+`)
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, text) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), "msg=")
			found = append(found, took.ReplaceAllString(line, ""))
		}
	}
	return found
}

// reconciling are the options of a daemon that reconciles at a time.
func (j *journal) reconciling(spec string, days int) func(*jobs.Options) {
	at, err := jobs.ParseSchedule(spec, "UTC")
	if err != nil {
		panic(err)
	}
	return func(o *jobs.Options) {
		o.ReconcileAt, o.ReconcileDays, o.Log = at, days, slog.New(slog.NewTextHandler(j, nil))
	}
}

// lossy is a ledger that forgot some deliveries: it says so of their keys until they are entered again.
func lossy(b *bench, rows ...string) *flawed {
	lost := map[string]bool{}
	for _, row := range rows {
		lost[jobs.Key{Webhook: "acme", Type: "Lead", Row: row, Action: jobs.ActionCreate}.ID().String()] = true
	}
	return &flawed{Ledger: b.ledger, lost: lost}
}

// TestReconcileByItself: a daemon reconciles when the schedule says, and says what it found; what is older than its days
// it leaves alone.
func TestReconcileByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		j := &journal{}
		b.leads.add("bot", 1)
		time.Sleep(72 * time.Hour)
		b.leads.add("bot", 14)
		b.runNow(false)
		if _, err := b.ledger.LastFire(context.Background(), "reconcile 0 3 * * *"); err != nil { // as a daemon of yesterday's left it
			t.Fatal(err)
		}
		l := lossy(b, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14")
		b.serve(30*time.Hour, l.use, j.reconciling("0 3 * * *", 2))
		want := []string{`"rows were missing from the ledger; they are entered and will be sent" missing=13 entered=0 rows="` +
			`Lead 2 of chatbot bot for webhook acme, Lead 3 of chatbot bot for webhook acme, Lead 4 of chatbot bot for webhook acme, ` +
			`Lead 5 of chatbot bot for webhook acme, Lead 6 of chatbot bot for webhook acme, Lead 7 of chatbot bot for webhook acme, ` +
			`Lead 8 of chatbot bot for webhook acme, Lead 9 of chatbot bot for webhook acme, Lead 10 of chatbot bot for webhook acme, ` +
			`Lead 11 of chatbot bot for webhook acme, and 3 more"`}
		if diff := cmp.Diff(want, j.lines("missing from")); diff != "" {
			t.Errorf("warned of (-want +got):\n%s", diff)
		}
		want = []string{
			"reconciled since=2000-01-02 owed=14 delivered=1 pending=0 dead=0 missing=13",
			"reconciled since=2000-01-03 owed=14 delivered=14 pending=0 dead=0 missing=0",
		}
		if diff := cmp.Diff(want, j.lines("msg=reconciled")); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

// TestReconcileUnheard: a night is reconciled though the ledger's answer to whose it is was lost.
func TestReconcileUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		lost := false
		l := &flawed{Ledger: b.ledger, fire: func() error {
			if !lost {
				lost = true
				return errAway
			}
			return nil
		}}
		j := &journal{}
		b.serve(50*time.Hour, l.use, j.reconciling("0 3 * * *", 2))
		if n := len(j.lines("msg=reconciled")); n != 2 || !lost {
			t.Errorf("an answer was lost: %v; it reconciled %d times in two nights", lost, n)
		}
	})
}

// TestReconcileOnceForAll: of daemons on one ledger one reconciles a night; where it is stopped before the end, another.
func TestReconcileOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		b.leads.add("bot", 3)
		b.runNow(false)
		first, second := &journal{}, &journal{}
		stopped, stop := context.WithCancel(context.Background())
		l := &flawed{Ledger: b.ledger, states: func() { // the first night's is stopped in the middle
			stop()
			time.Sleep(time.Second)
		}}
		var both sync.WaitGroup
		both.Go(func() {
			if err := b.runner(l.use, first.reconciling("@daily", 7)).Serve(stopped, func() {}); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			time.Sleep(48*time.Hour + time.Second) // it begins while the first is in its second night
			b.serve(2*24*time.Hour, second.reconciling("@daily", 7))
		})
		both.Wait()
		if lines := first.lines("msg=reconciled"); len(lines) != 0 {
			t.Errorf("the one that was stopped said %q", lines)
		}
		if lines := second.lines("msg=reconciled"); len(lines) != 3 { // the one that was left, and one a night
			t.Errorf("the other said %q", lines)
		}

		several := []*journal{{}, {}, {}}
		for _, j := range several {
			both.Go(func() { b.serve(3*24*time.Hour, j.reconciling("@daily", 7)) })
		}
		both.Wait()
		n := 0
		for _, j := range several {
			n += len(j.lines("msg=reconciled"))
		}
		if n != 3 {
			t.Errorf("three daemons reconciled %d times in three nights", n)
		}
	})
}

// TestReconcileFails: what keeps a reconciliation from its end is said, and the next night is another.
func TestReconcileFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, hook("acme"))
		defer b.close()
		j := &journal{}
		b.leads.add("bot", 1)
		b.runNow(false)
		failing := time.Now().Add(20 * time.Hour)
		b.leads.fail = func() error {
			if time.Now().Before(failing) {
				return errors.New("the table is locked")
			}
			return nil
		}
		b.serve(50*time.Hour, j.reconciling("0 6 * * *", 7))
		if lines := j.lines("reconciling failed"); len(lines) != 1 || !strings.Contains(lines[0], "the table is locked") {
			t.Errorf("said %q", lines)
		}
		var said []string
		for _, line := range j.lines("missing=0") {
			said = append(said, strings.Split(line, " since")[0])
		}
		if diff := cmp.Diff([]string{`"reconciled in part"`, "reconciled"}, said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}
