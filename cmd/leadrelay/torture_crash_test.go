package main

import (
	"fmt"
	"time"
)

// What a killed process may have sent in vain, as the README promises: its workers, and a settle buffer.
const (
	crashWorkers = 24
	settleBuffer = 512
)

var crashes = []scenario{
	{name: "killed at random", engines: engines, long: 3, short: 1, try: killedAtRandom},
}

// killedAtRandom kills daemons and runs by hand at whatever moment, and starts the next at once, while rows are written
// and CRMs refuse some of them.
func killedAtRandom(o *ordeal) {
	crm := newWitness(o.t, o.rand, map[string]mood{
		"atonce": {within: 30 * time.Millisecond},
		"moody":  {refuse: 5, fail: 5, mumble: 5, dawdle: 3, within: 60 * time.Millisecond},
		"timed":  {refuse: 2, within: 10 * time.Millisecond},
		"all":    {within: 5 * time.Millisecond},
	})
	app := newApplication(o.t, o.engine)
	o.configure(fmt.Sprintf(`source: %q
ledger: %q
push: {workers: %d, per_webhook: 8}
http: {allow_http: true, allow_private: true, proxy: "${PROXY}"}
webhooks:
  - {id: atonce, chatbot: a, url: "%[4]s/atonce", sign_key: %[5]q, from: beginning, immediate: true, schedule: "@every 7s"}
  - {id: moody, chatbot: b, url: "%[4]s/moody", sign_key: %[5]q, from: beginning, immediate: true, retry_at: [300ms, 1s], schedule: "@every 3s"}
  - {id: timed, chatbot: [a, b], types: Lead, url: "%[4]s/timed", sign_key: %[5]q, from: beginning, retry_at: [500ms], schedule: "@every 2s"}
  - {id: all, chatbot: "*", url: "%[4]s/all", sign_key: %[5]q, from: beginning, immediate: true, schedule: "@every 5s"}
`, app.source, newLedger(o.t, o.engine), crashWorkers, crm.url, signKey))
	wishes := []wish{{"atonce", "a", ""}, {"moody", "b", ""}, {"timed", "", "Lead"}, {"all", "", ""}}
	app.installTrigger(o.site)
	app.insertMany("a", 500) // older ones, which are filled in backwards
	writing := startWriting(o.t, app, o.rand, 3, 150*time.Millisecond)
	for range pick(6, 80) {
		args := []string{"serve"}
		switch o.rand.IntN(6) {
		case 0:
			args = []string{"run-now"}
		case 1:
			args = []string{"run-now", "--no-wait"}
		}
		l := o.launch(crm, args...)
		select {
		case <-l.gone:
		case <-time.After(o.between(10*time.Millisecond, 2500*time.Millisecond)):
		}
		l.kill()
	}
	writing.end()
	o.finish(crm)
	o.audit(app, crm, wishes, crashWorkers+settleBuffer)
	crm.verify(o.t, 0, signKey)
}
