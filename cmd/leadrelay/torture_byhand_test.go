package main

import (
	"strings"
	"syscall"
	"time"
)

// runsByHand begins runs by hand while databases fail, and has them fail in their midst. Each waits for half a minute, and
// where that is not enough it says so in a line.
func runsByHand(o *ordeal) {
	s := &siege{ordeal: o}
	s.build()
	both := []*host{s.source, s.ledger}
	at := func(hosts []*host, f func(h *host) error) {
		o.t.Helper()
		for _, h := range hosts {
			if err := f(h); err != nil {
				o.t.Fatal(err)
			}
		}
	}
	stop := func(h *host) error { return h.server.Stop(syscall.SIGQUIT) }
	run := func(h *host) error { return h.server.Run() }
	begin := func(rows int) *life {
		o.t.Helper()
		s.app.insertPersons("leads", "a", rows)
		return o.launch(s.crm, "run-now")
	}
	const away = "is away, waiting for it"

	// Away when it begins.
	for _, hosts := range [][]*host{{s.source}, {s.ledger}, both} {
		s.app.insertPersons("leads", "a", 50)
		at(hosts, stop)
		l := o.launch(s.crm, "run-now")
		l.says(away)
		time.Sleep(3 * time.Second)
		at(hosts, run)
		l.await(exitDone)
		o.did("faults")
	}
	// Away in its midst.
	for _, hosts := range [][]*host{{s.source}, {s.ledger}, both} {
		before, _ := s.crm.count()
		l := begin(2000)
		o.until(func() bool { acked, _ := s.crm.count(); return acked > before+100 }, "the run is under way")
		at(hosts, stop)
		time.Sleep(5 * time.Second)
		at(hosts, run)
		l.await(exitDone)
		o.did("faults")
	}
	// What waiting does not mend, it is not waited for.
	for _, h := range both {
		end := refusing("alter role relay password 'another'", "alter role relay password '"+relayPassword+"'")(h)
		l := begin(1)
		l.await(exitFailed)
		s.saysOnly(l, "password authentication failed")
		end()
		o.did("faults")
	}
	// Away for too long: when it begins, and in its midst.
	s.app.insertPersons("leads", "a", 10)
	at([]*host{s.source}, stop)
	s.givesUp(o.launch(s.crm, "run-now"), "open the source")
	at([]*host{s.source}, run)
	o.did("faults")

	before, _ := s.crm.count()
	midst := begin(5000)
	o.until(func() bool { acked, _ := s.crm.count(); return acked > before+100 }, "the run is under way")
	midst.blows = append(midst.blows, blow{at: time.Now()}) // what is acknowledged from now on cannot be recorded
	at([]*host{s.ledger}, stop)
	s.givesUp(o.launch(s.crm, "run-now"), "open the ledger")
	s.givesUp(midst, "outcomes could be recorded; these records are sent again")
	at([]*host{s.ledger}, run)
	o.did("faults")
	s.judge()
}

// givesUp demands that a run ends after half a minute or a little more, with a line that says why.
func (s *siege) givesUp(l *life, text string) {
	s.t.Helper()
	l.await(exitFailed)
	if took := l.ended.Sub(l.started); took < 25*time.Second || took > 2*time.Minute {
		s.t.Errorf("%s gave up after %v", l.name, took)
	}
	s.saysOnly(l, text)
}

// saysOnly demands that a run ended with a line that says this, and no other beside what it logs.
func (s *siege) saysOnly(l *life, text string) {
	s.t.Helper()
	var lines []string
	for line := range strings.Lines(l.said()) {
		if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "gathered ") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "leadrelay: ") || !strings.Contains(lines[0], text) {
		s.t.Errorf("%s should say in one line: %s\n%s", l.name, text, strings.Join(lines, ""))
	}
	l.killed = true // its end was looked at
}
