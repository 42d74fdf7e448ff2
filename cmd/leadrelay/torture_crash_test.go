package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

var crashes = []scenario{
	{name: "killed at random", engines: engines, long: 3, short: 1, try: killedAtRandom},
	{name: "killed at its worst", engines: engines, long: 3, short: 1, try: killedAtItsWorst},
	{name: "killed at its birth", engines: engines, long: 1, short: 1, try: killedAtItsBirth},
}

// crashHooks are webhooks of every kind, and what they want.
var (
	crashHooks = []hook{
		{"atonce", `chatbot: a, immediate: true, schedule: "@every 7s"`},
		{"moody", `chatbot: b, immediate: true, retry_at: [300ms, 1s], schedule: "@every 3s"`},
		{"timed", `chatbot: [a, b], types: Lead, retry_at: [500ms], schedule: "@every 2s"`},
		{"all", `chatbot: "*", immediate: true, schedule: "@every 5s"`},
	}
	crashWishes = []wish{{"atonce", "a", ""}, {"moody", "b", ""}, {"timed", "", "Lead"}, {"all", "", ""}}
	crashMoods  = map[string]mood{
		"atonce": {within: 30 * time.Millisecond},
		"moody":  {refuse: 5, fail: 5, mumble: 5, dawdle: 3, within: 60 * time.Millisecond},
		"timed":  {refuse: 2, within: 10 * time.Millisecond},
		"all":    {within: 5 * time.Millisecond},
	}
)

// killedAtRandom kills daemons and runs by hand at whatever moment, and starts the next at once, while rows are written
// and CRMs refuse some of them.
func killedAtRandom(o *ordeal) {
	crm := newWitness(o.t, o.rand, crashMoods)
	app := newApplication(o.t, o.engine)
	o.install(app, crm, "", crashHooks...)
	app.installTrigger(o.site)
	app.insertPersons("leads", "a", pick(100, 500)) // older ones, which are filled in backwards
	writing := startWriting(o.t, app, o.rand, 3, pick[time.Duration](400, 150)*time.Millisecond)
	for range pick(6, 80) {
		l := o.launch(crm, o.someCommand()...)
		most := 2500 * time.Millisecond
		if o.rand.IntN(12) == 0 {
			most = pick(most, 10*time.Second)
		}
		l.lived(o.between(10*time.Millisecond, most))
		l.kill()
		o.remember(crm)
	}
	writing.end()
	o.finish(crm)
	o.audit(app, crm, crashWishes)
	crm.verify(o, hiddenKey)
}

// someCommand is one that pushes.
func (o *ordeal) someCommand() []string {
	switch o.rand.IntN(6) {
	case 0:
		return []string{"run-now"}
	case 1:
		return []string{"run-now", "--no-wait"}
	}
	return []string{"serve"}
}

// killedAtItsWorst kills at the moments at which most is half done.
func killedAtItsWorst(o *ordeal) {
	crm := newWitness(o.t, o.rand, crashMoods)
	app := newApplication(o.t, o.engine)
	install := func(n int) {
		o.install(app, crm, fmt.Sprintf("retention: %dd", 30+n), crashHooks...) // another configuration each time
	}
	install(0)
	app.installTrigger(o.site)
	app.insertPersons("leads", "a", pick(200, 2000))
	writing := startWriting(o.t, app, o.rand, 3, pick[time.Duration](400, 100)*time.Millisecond)
	for i := range pick(6, 60) {
		moment := worst[(i+o.rand.IntN(2))%len(worst)]
		l := o.launch(crm, moment.command...)
		moment.reach(o, crm, l, install)
		l.kill()
		o.remember(crm)
	}
	writing.end()
	o.finish(crm)
	o.audit(app, crm, crashWishes)
	crm.verify(o, hiddenKey)
}

// A moment is one that reach returns at, and at which its process is killed.
type moment struct {
	command []string
	reach   func(o *ordeal, crm *witness, l *life, install func(int))
}

var (
	toServe = []string{"serve"}
	worst   = []moment{
		{toServe, func(o *ordeal, crm *witness, l *life, _ func(int)) { // requests are with the CRM
			l.sees(crm.next(1+o.rand.IntN(300), false))
		}},
		{toServe, func(o *ordeal, crm *witness, l *life, _ func(int)) { // outcomes are being settled
			l.sees(crm.next(1+o.rand.IntN(300), true))
			time.Sleep(o.between(0, 100*time.Millisecond))
		}},
		{toServe, func(o *ordeal, crm *witness, l *life, _ func(int)) { // it drains
			l.sees(crm.next(1+o.rand.IntN(100), true))
			l.signal(syscall.SIGTERM)
			l.lived(o.between(0, 300*time.Millisecond))
		}},
		{toServe, func(o *ordeal, crm *witness, l *life, install func(int)) { // it reloads, once or again and again
			l.sees(crm.next(1+o.rand.IntN(100), true))
			for range 1 + o.rand.IntN(3) {
				install(o.rand.IntN(50))
				l.reloads++
				l.signal(syscall.SIGHUP)
				l.lived(o.between(0, 400*time.Millisecond))
			}
		}},
		{toServe, func(o *ordeal, _ *witness, l *life, install func(int)) { // it begins, with another configuration
			install(o.rand.IntN(50))
			l.lived(o.between(0, 250*time.Millisecond))
		}},
		{[]string{"run-now"}, func(o *ordeal, crm *witness, l *life, _ func(int)) { // its run has begun
			l.sees(crm.next(1+o.rand.IntN(100), o.rand.IntN(2) == 0))
		}},
		{[]string{"run-now"}, func(o *ordeal, crm *witness, l *life, _ func(int)) { // it was interrupted
			l.sees(crm.next(1+o.rand.IntN(50), true))
			l.signal(syscall.SIGINT)
			l.lived(o.between(0, 200*time.Millisecond))
		}},
		{toServe, func(o *ordeal, crm *witness, l *life, _ func(int)) { // another is killed beside it
			beside := o.launch(crm, o.someCommand()...)
			l.sees(crm.next(100+o.rand.IntN(200), false))
			beside.kill()
			l.lived(o.between(0, 500*time.Millisecond))
		}},
	}
)

// sees waits for a moment that comes as a rule, but need not: there may be nothing to send.
func (l *life) sees(moment <-chan struct{}) {
	select {
	case <-moment:
	case <-l.gone:
	case <-time.After(3 * time.Second):
	}
}

// killedAtItsBirth kills the first processes of new installations, which make the ledger, again and again.
func killedAtItsBirth(o *ordeal) {
	app := newApplication(o.t, o.engine)
	app.insertPersons("leads", "a", 20)
	hooks, wishes := []hook{{"atonce", "chatbot: a, immediate: true"}}, []wish{{"atonce", "a", ""}}
	// How long it takes until it serves.
	first := o.part("0")
	crm := newWitness(o.t, o.rand, crashMoods)
	first.install(app, crm, "", hooks...)
	l := first.launch(crm, "serve")
	l.says("msg=serving")
	birth := time.Since(l.started)
	l.stop()

	parts, crms := []*ordeal{}, []*witness{}
	for i := range pick(4, 25) {
		p := o.part(fmt.Sprint(i + 1))
		crm := newWitness(o.t, o.rand, crashMoods)
		p.install(app, crm, "", hooks...)
		for range 1 + o.rand.IntN(4) {
			l := p.launch(crm, o.someCommand()...)
			l.lived(o.between(0, birth*3/2))
			l.kill()
			p.remember(crm)
		}
		parts, crms = append(parts, p), append(crms, crm)
	}
	var work sync.WaitGroup
	for i, p := range parts {
		l := p.launch(crms[i], "run-now")
		work.Go(func() { <-l.gone })
	}
	work.Wait()
	for i, p := range parts {
		p.lives[len(p.lives)-1].await(exitDone)
		p.audit(app, crms[i], wishes)
		crms[i].verify(p, hiddenKey)
		o.join(p)
	}
}
