package main

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

var daemons = []scenario{
	{name: "several daemons", engines: []string{"postgres"}, long: 2, limit: 6 * time.Minute, try: severalDaemons},
	{name: "killed in a run", engines: []string{"postgres"}, long: 1, try: killedInARun},
}

// severalDaemons lets three share a ledger, with clocks that are minutes apart. One is killed; one is
// paused for longer than its lease with requests under way, which the CRM refuses while others deliver the same records:
// what it wants to record afterwards is fenced off. Runs by hand go beside them.
func severalDaemons(o *ordeal) {
	moods := map[string]mood{"fenced": {within: 200 * time.Millisecond}}
	for webhook, m := range crashMoods {
		moods[webhook] = m
	}
	crm := newWitness(o.t, o.rand, moods)
	app := newApplication(o.t, o.engine)
	hooks := append(slices.Clone(crashHooks), hook{"fenced", `chatbot: a, immediate: true, retry_at: [300ms], schedule: "@every 5s"`})
	o.install(app, crm, "", hooks...)
	app.installTrigger(o.site)
	binary, skews := skewedBinary(o.t), []time.Duration{0, 4 * time.Minute, -3 * time.Minute}
	serve := func(i int) *life {
		l := o.launchSkewed(crm, binary, skews[i], "serve")
		l.says("msg=serving")
		return l
	}
	killed, paused, other := serve(0), serve(1), serve(2)
	began := time.Now()
	writing := startWriting(o.t, app, o.rand, 4, 150*time.Millisecond)
	time.Sleep(3 * time.Second)
	byHand := o.launch(crm, "run-now", "--no-wait")
	killed.sees(crm.next(1+o.rand.IntN(100), o.rand.IntN(2) == 0))
	killed.kill()
	o.remember(crm)
	byHand.await(exitDone, exitPending)
	again := serve(0)

	// Its requests are refused from here on, so that what it has to say differs from what becomes of the records.
	crm.set(paused.name+" fenced", mood{refuse: 100, within: 300 * time.Millisecond})
	refuses := time.Now()
	app.insertPersons("leads", "a", 200) // more than one of them has workers for
	o.until(func() bool { return crm.underWay(paused.name, "fenced", refuses) >= 3 }, "requests of the one to be paused are under way")
	at := paused.pause()
	o.until(o.takenFrom(paused, at, again, other), "another takes its records")
	time.Sleep(2 * time.Second)
	paused.resume()
	paused.says("the lease ran out")
	time.Sleep(2 * time.Second) // and what it had under way is settled
	crm.set(paused.name+" fenced", moods["fenced"])
	other.sees(crm.next(1+o.rand.IntN(100), o.rand.IntN(2) == 0))
	other.kill()
	byHand = o.launch(crm, "run-now")
	byHand.await(exitDone, exitPending)
	writing.end()
	calm := time.Now()
	again.stop()
	paused.stop()
	o.finish(crm)
	wishes := append(slices.Clone(crashWishes), wish{"fenced", "a", ""})
	o.audit(app, crm, wishes)
	crm.verify(o, hiddenKey)
	o.auditFence(crm, paused, at)
	o.auditFires(began, calm)
}

// taken is said by who takes back what another was sending.
var taken = regexp.MustCompile(`records that a dead process was sending are due again`)

// takenFrom reports whether one of the others has said, since then, that it took back what this process was sending. They
// say so of the killed ones too, whose leases may run out just then. So what was said counts once the process's own lease
// is gone from the ledger, which it is before it is said.
func (o *ordeal) takenFrom(l *life, at time.Time, others ...*life) func() bool {
	o.t.Helper()
	if !o.leases(l) {
		o.t.Fatalf("the ledger has no lease of %s", l.name)
	}
	said := 0
	return func() bool {
		n := 0
		for _, other := range others {
			n += len(taken.FindAllString(other.since(at), -1))
		}
		if n == said {
			return false
		}
		said = n
		return !o.leases(l)
	}
}

// leases reports whether the ledger has a lease of a process.
func (o *ordeal) leases(l *life) (has bool) {
	o.t.Helper()
	o.read(func(db *sql.DB, schema string) {
		owner := fmt.Sprintf("%% pid %d", l.cmd.Process.Pid)
		if err := db.QueryRowContext(o.ctx, `select exists (select 1 from `+schema+`leases where owner like $1)`, owner).Scan(&has); err != nil {
			o.t.Fatal(err)
		}
	})
	return has
}

// auditFence demands that nothing of what the paused process had under way was recorded by it: the records came again from
// others, and the ledger counts one attempt less than came.
func (o *ordeal) auditFence(crm *witness, paused *life, at time.Time) {
	o.t.Helper()
	attempts := map[string]int{}
	for _, d := range o.deliveries("--webhook", "fenced") {
		attempts[d.ID] = d.Attempts
	}
	fenced := 0
	for id, of := range crm.all() {
		for i, r := range of {
			if r.process != paused.name || r.webhook != "fenced" || r.acked || r.at.After(at) || i+1 == len(of) || of[i+1].at.Sub(at) < 10*time.Second {
				continue
			}
			fenced++
			if attempts[id] != len(of)-1 {
				o.t.Errorf("%s came %d times, once from the process that was paused, and the ledger counts %d attempts", id, len(of), attempts[id])
			}
		}
	}
	if fenced == 0 {
		o.t.Error("nothing was under way in the process that was paused")
	}
	if !strings.Contains(paused.said(), "outcomes came after their records were taken back") {
		o.t.Error("the process that was paused does not say that outcomes came too late")
	}
	o.t.Logf("%d outcomes were fenced off", fenced)
}

// auditFires demands that no fire of a schedule was run twice, and that most were run at all: one that comes while the run
// before it gathers, or late, goes with another.
func (o *ordeal) auditFires(began, calm time.Time) {
	o.t.Helper()
	var said strings.Builder
	for _, l := range o.lives {
		said.WriteString(l.said())
	}
	started, fires := map[string]int{}, map[string]int{}
	for _, found := range regexp.MustCompile(`msg="run started" run=(\S+) schedule="(.*?)" fire=(\S+)`).FindAllStringSubmatch(said.String(), -1) {
		started[found[1]]++
		fires[found[2]+" "+found[3]]++
	}
	for _, counts := range []map[string]int{started, fires} {
		for what, n := range counts {
			if n > 1 {
				o.t.Errorf("run %s was started %d times", what, n)
			}
		}
	}
	if len(started) == 0 {
		o.t.Error("no line of the logs says that a run was started")
	}
	schedules := 0
	o.read(func(db *sql.DB, schema string) {
		o.each(db, `select schedule, count(*) from `+schema+`runs where kind = 'scheduled' group by 1`, func(scan func(...any) error) error {
			var schedule string
			var runs int // of as many fires: they have a unique index
			err := scan(&schedule, &runs)
			schedules++
			every, _ := time.ParseDuration(strings.TrimPrefix(schedule, "@every "))
			if wanted := int(calm.Sub(began) / max(every, time.Second)); runs < wanted/2 {
				o.t.Errorf("of schedule %s there are %d runs, and %d were wanted", schedule, runs, wanted)
			}
			return err
		})
	})
	if schedules < 2 {
		o.t.Errorf("the ledger has runs of %d schedules", schedules)
	}
}

// killedInARun kills whichever of two daemons has just begun a scheduled run of thousands of records. Another takes it
// over and ends it.
func killedInARun(o *ordeal) {
	crm := newWitness(o.t, o.rand, map[string]mood{"timed": {refuse: 1, within: 10 * time.Millisecond}})
	app := newApplication(o.t, o.engine)
	o.install(app, crm, "", hook{"timed", `chatbot: a, retry_at: [500ms], schedule: "@every 8s"`})
	lives := []*life{o.launch(crm, "serve"), o.launch(crm, "serve")}
	for _, l := range lives {
		l.says("msg=serving")
	}
	for range 6 {
		app.insertPersons("leads", "a", 4000)
		at := time.Now()
		victim := -1
		o.until(func() bool {
			victim = slices.IndexFunc(lives, func(l *life) bool { return strings.Contains(l.since(at), `msg="run started"`) })
			return victim >= 0
		}, "a run begins")
		time.Sleep(o.between(0, 150*time.Millisecond))
		lives[victim].kill()
		o.remember(crm)
		lives[victim] = o.launch(crm, "serve")
		lives[victim].says("msg=serving")
	}
	o.until(func() bool {
		return slices.ContainsFunc(lives, func(l *life) bool { return strings.Contains(l.said(), "run taken over: nobody was reading for it") })
	}, "a run is taken over")
	for _, l := range lives {
		l.stop()
	}
	o.finish(crm)
	o.audit(app, crm, []wish{{"timed", "a", "Lead"}})
	crm.verify(o, hiddenKey)
}

// pause stops a process where it stands.
func (l *life) pause() (at time.Time) {
	l.o.t.Helper()
	at = time.Now()
	l.signal(syscall.SIGSTOP)
	l.blows = append(l.blows, blow{at: time.Now()})
	l.o.did("pauses")
	return at
}

// resume lets it go on.
func (l *life) resume() {
	l.blows[len(l.blows)-1].over = time.Now()
	l.signal(syscall.SIGCONT)
}

// since is what was logged from then on, by whatever clock.
func (l *life) since(at time.Time) string {
	at = at.Add(l.skew)
	said := l.said()
	for line := range strings.Lines(said) {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		if when, err := time.Parse(time.RFC3339, stamp); err == nil && when.After(at) {
			return said[strings.Index(said, line):]
		}
	}
	return ""
}
