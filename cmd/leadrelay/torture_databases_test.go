package main

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

// databases is the family of databases that fail: one daemon goes through a list of faults, of its source, of its ledger,
// and of both. The short form tries some, each of one of these.
var databases = []scenario{
	{name: "databases", engines: []string{"postgres"}, short: 1, try: besieged(&restarts, &refusals, &networks, &locks, &commits)},
	{name: "files", engines: []string{"sqlite"}, long: 1, short: 1, try: besieged(&fileFaults), limit: siegeLimit},
	{name: "databases stopped", engines: []string{"postgres"}, long: 1, try: besieged(&restarts), limit: siegeLimit},
	{name: "databases refuse", engines: []string{"postgres"}, long: 1, try: besieged(&refusals), limit: siegeLimit},
	{name: "databases slow", engines: []string{"postgres"}, long: 1, try: besieged(&delays), limit: siegeLimit},
	{name: "databases cut off", engines: []string{"postgres"}, long: 1, try: besieged(&networks), limit: siegeLimit},
	{name: "databases locked", engines: []string{"postgres"}, long: 1, try: besieged(&locks), limit: siegeLimit},
	{name: "commits cut off", engines: []string{"postgres"}, long: 1, try: besieged(&commits), limit: siegeLimit},
	{name: "runs by hand", engines: []string{"postgres"}, long: 1, try: runsByHand, limit: siegeLimit},
}

const siegeLimit = 20 * time.Minute

func besieged(lists ...*[]fault) func(o *ordeal) {
	return func(o *ordeal) {
		s := &siege{ordeal: o}
		s.build()
		s.daemon = s.launch(s.crm, "serve")
		s.daemon.says("msg=serving")
		s.write()
		for _, list := range lists {
			for _, f := range *list {
				sides := f.on
				if sides == nil {
					sides = []string{"source", "ledger", "both"}
				}
				lasts := pick(f.short, f.long)
				if lasts == 0 {
					continue
				}
				if !*tortureLong {
					sides = sides[s.rand.IntN(len(sides)):][:1]
				}
				for _, side := range sides {
					s.suffer(f, side, lasts)
				}
			}
		}
		s.end()
	}
}

// A siege is an ordeal of one daemon, whose databases fail one way after the other.
type siege struct {
	*ordeal
	crm            *witness
	source, ledger *host
	app            *application
	daemon         *life
	written        func() // ends the writing
}

// build makes the databases, and the program's configuration.
func (s *siege) build() {
	s.crm = newWitness(s.t, s.rand, map[string]mood{
		"atonce": {within: 30 * time.Millisecond},
		"moody":  {refuse: 5, fail: 5, mumble: 5, within: 60 * time.Millisecond},
		"timed":  {within: 10 * time.Millisecond},
	})
	if s.engine == "postgres" {
		s.buildServers()
	} else {
		s.buildFiles()
	}
	s.ordeal.ledger = s.ledger.url()
	s.install(s.app, s.crm, "",
		hook{"atonce", `chatbot: a, immediate: true, schedule: "@every 7s"`},
		hook{"moody", `chatbot: b, immediate: true, retry_at: [300ms, 1s], schedule: "@every 3s"`},
		hook{"timed", `chatbot: [a, b], types: Lead, retry_at: [500ms], schedule: "@every 2s"`})
	s.ordeal.ledger = s.ledger.direct() // for this test itself
	s.app.installTrigger(s.site)
}

func (s *siege) buildServers() {
	var starting sync.WaitGroup
	starting.Go(func() { s.source = newHost(s.t, "source") })
	s.ledger = newHost(s.t, "ledger")
	starting.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	s.app = openApplication(s.t, s.source.direct())
	s.app.source = s.source.url()
	s.app.exec("grant select on leads, appointments to relay")
}

func (s *siege) buildFiles() {
	dir := filepath.Join(s.dir, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.source = &host{t: s.t, database: "source", file: filepath.Join(s.dir, "chatbots.db")}
	s.source.path = s.source.file
	s.ledger = &host{t: s.t, database: "ledger"}
	if s.ledger.file = filepath.Join(dir, "ledger.db"); *tortureLong { // nothing fills the disk in the short form
		s.ledger.file, s.ledger.path = smallDisk(s.t, s.site, dir)
	} else {
		s.ledger.path = s.ledger.file
	}
	made := openApplication(s.t, s.source.url())
	made.exec("pragma journal_mode = delete") // the default: who writes locks out who reads
	if err := made.db.Close(); err != nil {
		s.t.Fatal(err)
	}
	// Where the file is moved away no other may be made in its place.
	db, err := sql.Open("sqlite", "file:"+s.source.file+"?mode=rw&_pragma=busy_timeout(500)&_txlock=immediate")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	s.app = &application{t: s.t, db: db, source: s.source.url(), engine: "sqlite"}
}

// write commits rows, where the source lets it, until it is called to an end.
func (s *siege) write() {
	var ends []func()
	for i := range 2 {
		own := rand.New(rand.NewPCG(s.rand.Uint64(), uint64(i)))
		ends = append(ends, repeatedly(40*time.Millisecond, func() {
			_, _ = s.app.insertPerson(string("ab"[own.IntN(2)]))
		}))
	}
	s.written = sync.OnceFunc(func() {
		for _, end := range ends {
			end()
		}
	})
	s.t.Cleanup(s.written)
}

// suffer lets a fault befall these databases for a time, and returns when the daemon has gone on.
func (s *siege) suffer(f fault, side string, lasts time.Duration) {
	s.t.Helper()
	s.passes() // the last one has
	st := &stint{fault: f, side: side, from: len(s.daemon.said())}
	s.stints = append(s.stints, st)
	s.done["faults"]++
	acked, _ := s.crm.count()
	watched := s.watch(st)
	st.began = time.Now()
	var ends []func()
	for _, h := range map[string][]*host{"source": {s.source}, "ledger": {s.ledger}, "both": {s.source, s.ledger}}[side] {
		ends = append(ends, f.begin(h))
	}
	time.Sleep(lasts)
	for _, end := range ends {
		end()
	}
	st.mended = time.Now()
	s.passes()
	st.resumed = time.Now()
	watched()
	after, _ := s.crm.count()
	st.acked = after - acked
	st.judge(s)
}

// passes returns when a record that is committed now is delivered.
func (s *siege) passes() {
	s.t.Helper()
	var id int64
	s.until(func() (ok bool) {
		var err error
		id, err = s.app.insertPerson("a")
		return err == nil
	}, "the source takes a row")
	key := jobs.Key{Webhook: "atonce", Type: "Lead", Row: fmt.Sprint(id), Action: jobs.ActionCreate}.ID().String()
	s.until(func() bool { return s.crm.has(key) }, "a row that is committed is delivered")
}

// has reports whether it acknowledged a request with this id.
func (w *witness) has(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.of[id] {
		if r.acked {
			return true
		}
	}
	return false
}

// end lets the daemon deliver all that is owed, and judges.
func (s *siege) end() {
	s.written()
	s.until(func() bool {
		time.Sleep(500 * time.Millisecond)
		var r statusReport
		s.document(&r, 0, "status")
		open := 0
		for _, w := range r.Webhooks {
			open += w.Pending + w.Sending
		}
		return open == 0
	}, "nothing is owed")
	s.daemon.stop()
	s.judge()
}

// judge finds what is left, and holds source, ledger and CRM against each other.
func (s *siege) judge() {
	s.finish(s.crm)
	s.auditRecords(s.app, s.crm, []wish{{"atonce", "a", ""}, {"moody", "b", ""}, {"timed", "", "Lead"}})
	s.crm.verify(s.ordeal, hiddenKey)
	for _, l := range s.lives {
		if said := l.said(); l.code() != exitDone && !l.killed || strings.Contains(said, "panic") || strings.Contains(said, "DATA RACE") {
			s.t.Errorf("%s (%v) ended with exit code %d\n%s", l.name, l.args, l.code(), tail(said))
		}
	}
}
