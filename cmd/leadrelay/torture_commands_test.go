package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leadrelay/leadrelay/jobs"
)

var operations = []scenario{
	{name: "killed while operated", engines: engines, long: 1, try: killedWhileOperated},
}

// An operator enters, stops, changes and rolls the keys of webhooks while daemons are killed; the commands are killed too.
type operator struct {
	o     *ordeal
	crm   *witness
	keys  []jobs.Secret // that signed at some time
	hooks []string      // that were to be entered
	well  int           // commands that did what they were to do
}

// killedWhileOperated kills daemons, and commands that change webhooks, while they are at it.
func killedWhileOperated(o *ordeal) {
	crm := newWitness(o.t, o.rand, crashMoods)
	app := newApplication(o.t, o.engine)
	hooks := append(slices.Clone(crashHooks), hook{"late", `chatbot: b, immediate: true, schedule: "@every 4s"`})
	o.install(app, crm, "", hooks...)
	app.installTrigger(o.site)
	app.insertPersons("leads", "b", 1500)
	o.replace("key", "HIDDEN-by-hand\n")
	o.stops = true
	operator := &operator{o: o, crm: crm, keys: []jobs.Secret{hiddenKey, "HIDDEN-by-hand"}}
	writing := startWriting(o.t, app, o.rand, 2, 150*time.Millisecond)
	for range 60 {
		l := o.launch(crm, "serve")
		l.lived(o.between(10*time.Millisecond, time.Second))
		for range 1 + o.rand.IntN(2) {
			operator.acts()
		}
		l.lived(o.between(0, time.Second))
		l.kill()
		o.remember(crm)
	}
	writing.end()
	wishes := append(slices.Clone(crashWishes), wish{"late", "b", ""})
	for _, id := range operator.entered() {
		o.ask(exitDone, "webhook", "enable", id)
		if slices.Contains(operator.hooks, id) {
			wishes = append(wishes, wish{id, "a", ""})
		}
	}
	o.finish(crm)
	o.audit(app, crm, wishes)
	crm.verify(o, operator.keys...)
	const least = 20
	if operator.well < least || len(operator.hooks) == 0 {
		o.t.Errorf("%d commands did what they were to do, %d webhooks were entered: at least %d were to", operator.well, len(operator.hooks), least)
	}
}

// acts runs one command, and kills it in one of three cases.
func (op *operator) acts() {
	op.o.t.Helper()
	r := op.o.rand
	known := append(slices.Clone(op.hooks), "atonce", "moody", "timed", "all", "late")
	id := known[r.IntN(len(known))]
	byHand := slices.Contains(op.hooks, id)
	switch roll := r.IntN(6); {
	case roll == 0 && len(op.hooks) < 5:
		id := fmt.Sprintf("h%d", len(op.hooks)+1)
		op.hooks = append(op.hooks, id)
		op.run("webhook", "add", "--id", id, "--chatbot", "a", "--url", op.crm.url+"/"+id+"/HIDDEN-path", "--sign-key", "@key",
			"--header", "X-Token: HIDDEN-token", "--from", "beginning", "--immediate", "true", "--schedule", "@every 6s", "--retry-at", "300ms")
	case roll == 1 && byHand:
		op.run("webhook", "set", id, "--description", fmt.Sprint("changed ", r.IntN(100)))
	case roll <= 3 && byHand:
		op.run(append([]string{"webhook", "rotate-key", id}, [][]string{nil, {"--now"}, {"--finish"}}[r.IntN(3)]...)...)
		op.learn(id)
	case roll == 5:
		op.run("reconcile", "--json")
	case roll == 4:
		op.run("backfill", "--webhook", id)
	default:
		op.run("webhook", []string{"disable", "enable", "enable"}[r.IntN(3)], id)
	}
}

func (op *operator) run(args ...string) {
	op.o.t.Helper()
	var out, errs bytes.Buffer
	cmd := op.o.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		op.o.t.Fatal(err)
	}
	if op.o.rand.IntN(3) == 0 {
		time.Sleep(op.o.between(0, 120*time.Millisecond))
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	op.o.keep(strings.Join(args[:2], "-"), errs.String())
	switch code := cmd.ProcessState.ExitCode(); {
	case code < 0:
		op.o.did("kills of commands")
	case code == exitDone:
		op.well++
	case strings.Contains(errs.String(), "not in the ledger"), strings.Contains(errs.String(), "no ledger there yet"): // who was to enter it was killed
	case strings.Contains(errs.String(), "its key cannot be rotated until"): // it was, of late
	default:
		op.o.t.Errorf("leadrelay %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
}

// learn reads a webhook's key, which the command that made it may have been killed before it printed.
func (op *operator) learn(id string) {
	op.o.t.Helper()
	out, errs, code := op.o.try("webhook", "show", id, "--reveal", "--json")
	var shown struct {
		SignKey string `json:"sign_key"`
	}
	if code != exitDone {
		return // it was never entered
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.SignKey == "" {
		op.o.t.Fatalf("%v: %s", err, errs)
	}
	if key := jobs.Secret(shown.SignKey); !slices.Contains(op.keys, key) {
		op.keys = append(op.keys, key)
		op.o.secrets = append(op.o.secrets, shown.SignKey)
	}
}

// entered are the ids of the webhooks that the ledger has.
func (op *operator) entered() (ids []string) {
	op.o.t.Helper()
	var list struct{ Items []struct{ ID string } }
	op.o.document(&list, exitDone, "webhook", "list")
	for _, w := range list.Items {
		ids = append(ids, w.ID)
	}
	return ids
}
