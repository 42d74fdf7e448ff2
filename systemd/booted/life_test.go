//go:build booted

package booted_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const password = "a password of the source's"

// install types what README.md says, with the source's password where it says that such files go.
func (h *host) install() {
	h.before = h.files()
	h.write("source.pw", password+"\n")
	h.write("config.yaml", config("", webhook("now", "")))
	h.types("bin/leadrelay sql grants --config config.yaml | sudo -u postgres psql --quiet chatbots")
	h.exec("alter role leadrelay_reader password '" + strings.ReplaceAll(password, "'", "''") + "'")
	h.types("bin/leadrelay sql trigger --config config.yaml | sudo -u postgres psql --quiet chatbots")

	lines := strings.SplitAfter(strings.TrimSpace(h.block("Install", 0)), "\n")
	last := len(lines) - 1
	h.types(strings.Join(lines[:last], ""))
	h.types("sudo install -m 0640 -o root -g leadrelay source.pw /etc/leadrelay/source.pw")
	began := time.Now()
	h.types(lines[last])
	h.seconds("systemctl enable --now, until READY", time.Since(began))
	h.runs()
	for property, want := range map[string]string{
		"Type": "notify", "Result": "success", "NRestarts": "0", "StatusText": "running", "UnitFileState": "enabled",
		"User": "leadrelay", "WatchdogUSec": "1min",
	} {
		if got := h.show(property); got != want {
			h.t.Errorf("%s=%s, want %s", property, got, want)
		}
	}
	if out := h.types(h.block("Install", 1)); !strings.Contains(out, "Active: active (running)") || !strings.Contains(out, "now ") {
		h.t.Errorf("is it well?\n%s", out)
	}
	if out := h.types("cd / && sudo -u leadrelay leadrelay check"); strings.Contains(out, "warn") {
		h.t.Errorf("check warns:\n%s", out)
	}
	h.insert("now", 50)
	h.arrived("now")
	h.settled("now", "delivered", 50)
}

// journal looks at the lines that the daemon has written until now, and at each level.
func (h *host) journal() {
	since := time.Now()
	output(h.t, "bash", "-c", "echo 'bad: true' >>/etc/leadrelay/config.yaml")
	h.types(h.line("sudo systemctl reload leadrelay"))
	h.says(since, "the new configuration was refused")
	output(h.t, "sed", "-i", "/^bad: true$/d", "/etc/leadrelay/config.yaml")
	priorities := map[string]string{"DEBUG": "7", "INFO": "6", "WARN": "4", "ERROR": "3"}
	seen := map[string]bool{}
	for _, e := range h.entries(time.Unix(0, 0)) {
		if e.Program != "leadrelay" {
			continue
		}
		found := regexp.MustCompile(`^level=(\w+) msg=`).FindStringSubmatch(e.Message)
		if found == nil || strings.Contains(e.Message, "time=") {
			h.t.Errorf("not a line of the log as the journal wants it: %s", e.Message)
			continue
		}
		seen[found[1]] = true
		if e.Priority != priorities[found[1]] {
			h.t.Errorf("priority %s of: %s", e.Priority, e.Message)
		}
		if strings.Contains(e.Message, "Zdeňka") || strings.Contains(e.Message, password) {
			h.t.Errorf("it holds a name or a secret: %s", e.Message)
		}
	}
	if !seen["INFO"] || !seen["ERROR"] {
		h.t.Errorf("the lines are of the levels %v", seen)
	}
	if out := h.types("sudo " + h.line("journalctl -u leadrelay -p warning") + " --no-pager"); !strings.Contains(out, "level=ERROR") || strings.Contains(out, "level=INFO") {
		h.t.Errorf("warnings and errors alone:\n%s", out)
	}
}

// configure installs a configuration as README.md does.
func (h *host) configure(text string) {
	h.t.Helper()
	h.write("config.yaml", text)
	h.types(h.line("sudo install -D -m 0640 -o root -g leadrelay config.yaml"))
}

// schedule: a scheduled run fires in the daemon, and delivers.
func (h *host) schedule() {
	h.configure(config("", webhook("now", ""), webhook("later", `schedule: "@every 5s"`)))
	since := time.Now()
	h.types(h.line("sudo systemctl reload leadrelay"))
	h.says(since, "the configuration was read again")
	h.insert("later", 20)
	h.arrived("later")
	h.says(since, `msg="run ended"`)
	h.settled("later", "delivered", 20)
}

// users: the service's user owns what the service wrote, and others are told how to ask.
func (h *host) users() {
	err := filepath.WalkDir("/var/lib/leadrelay", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := "leadrelay:leadrelay 600"
		if d.IsDir() {
			want = "leadrelay:leadrelay 700"
		}
		if got := output(h.t, "stat", "--format", "%U:%G %a", path); got != want {
			h.t.Errorf("%s is %s, want %s", path, got, want)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, command := range []string{"status", "run-now", "webhook list"} {
		out, code := h.tries("cd / && sudo leadrelay " + command)
		advice, said := strings.CutPrefix(out[strings.LastIndex(out, "; run: ")+1:], " run: ")
		if code != 1 || !said {
			h.t.Errorf("root's leadrelay %s ends with exit code %d:\n%s", command, code, out)
			continue
		}
		h.types("cd / && " + advice)
	}
	if out, code := h.tries("cd / && leadrelay status"); code == 0 || !strings.Contains(out, "/etc/leadrelay/config.yaml: permission denied") {
		h.t.Errorf("another user's leadrelay status ends with exit code %d:\n%s", code, out)
	}
}

// reload: a good configuration is applied, a bad one refused while the old one goes on.
func (h *host) reload() {
	pid, since := h.pid(), time.Now()
	h.configure(config("", webhook("now", ""), webhook("later", `schedule: "@every 5s"`), webhook("added", "")))
	h.types(h.line("sudo systemctl reload leadrelay"))
	h.says(since, "the configuration was read again")
	h.insert("added", 5)
	h.arrived("added")

	since = time.Now()
	h.configure(config("retention: for ever\n", webhook("now", "")))
	h.types(h.line("sudo systemctl reload leadrelay"))
	refusal := h.says(since, "the new configuration was refused, the old one goes on")
	if refusal.Priority != "3" || !strings.Contains(refusal.Message, "/etc/leadrelay/config.yaml:4:12: retention: ") {
		h.t.Errorf("the refusal: %+v", refusal)
	}
	h.runs()
	h.insert("added", 5)
	h.arrived("added")
	if h.pid() != pid {
		h.t.Error("it was started anew")
	}
	h.configure(config("", webhook("now", "")))
}

// kill: SIGKILL, again and again, while rows are inserted all the time. What comes again had been answered, and was not
// recorded when a kill came.
func (h *host) kill() {
	h.configure(config("", webhook("killed", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	end := h.inserting("killed")
	const kills = 5
	var longest time.Duration
	inFlight := map[string]bool{} // at one of them
	for range kills {
		time.Sleep(1500 * time.Millisecond)
		pid, began := h.pid(), time.Now()
		h.types("sudo systemctl kill --signal KILL leadrelay")
		time.Sleep(time.Second) // the next one starts in five, and what had come is answered
		answers := h.answered()
		h.again(30*time.Second, pid)
		longest = max(longest, time.Since(began))
		before := len(inFlight)
		for _, d := range h.deliveries("killed") { // those of the one that was killed are its own for half a minute
			if answers[d.ID] > 0 && d.State != "delivered" {
				inFlight[d.ID] = true
			}
		}
		if n, most := len(inFlight)-before, 8+512; n > most { // under way, and answered and not recorded
			h.t.Errorf("%d were in flight at a kill, and at most %d may be", n, most)
		}
	}
	h.seconds(fmt.Sprintf("SIGKILL, until it serves again (the longest of %d)", kills), longest)
	end()
	h.settled("killed", "delivered", h.inserted("killed"))
	duplicates := h.arrived("killed")
	for id, n := range h.answered() {
		if n > 1 && !inFlight[id] {
			h.t.Errorf("%s came %d times, and was not in flight at a kill", id, n)
		}
	}
	h.figure(fmt.Sprintf("rows during %d kills, and those that came again", kills), fmt.Sprintf("%d, %d", h.inserted("killed"), duplicates))
	if n := h.show("NRestarts"); n != fmt.Sprint(kills) {
		h.t.Errorf("it was restarted %s times after %d kills", n, kills)
	}
}

// stop: what is under way may end and is recorded; what does not end is called off in time.
func (h *host) stop() {
	h.configure(config("", webhook("slow", ""), webhook("hung", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	h.insert("slow", 5)
	h.until(time.Minute, func() bool { return h.crm.ByChatbot()["slow"].Requests == 5 }, "5 requests are under way")
	began := time.Now()
	h.types(h.line("sudo systemctl stop leadrelay"))
	h.seconds("stop, with 5 requests under way that take 4 s", time.Since(began))
	if result := h.show("Result"); result != "success" {
		h.t.Errorf("the stop's result is %s", result)
	}
	h.arrived("slow")
	for _, d := range h.deliveries("slow") {
		if d.State != "delivered" || d.Attempts != 1 {
			h.t.Errorf("what was under way is recorded as %+v", d)
		}
	}

	h.types("sudo systemctl start leadrelay")
	h.exec("insert into leads (chatbot_id) values ('hung')")
	h.until(time.Minute, func() bool { return h.crm.ByChatbot()["hung"].Requests == 1 }, "a request that hangs is under way")
	began = time.Now()
	h.types(h.line("sudo systemctl stop leadrelay"))
	took := time.Since(began)
	h.seconds("stop, with a request under way that never ends", took)
	if result := h.show("Result"); result != "success" || took > 25*time.Second {
		h.t.Errorf("the stop's result is %s after %v", result, took)
	}
	if d := h.deliveries("hung"); len(d) != 1 || d[0].State != "pending" || d[0].Attempts != 1 || d[0].LastError != "timeout" {
		h.t.Errorf("what hung is recorded as %+v", d)
	}
}

// upgrade types what README.md says while rows are inserted.
func (h *host) upgrade() {
	h.configure(config("", webhook("upgraded", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	end := h.inserting("upgraded")
	time.Sleep(time.Second)
	pid, began := h.pid(), time.Now()
	h.types(h.block("Upgrade", 0))
	h.seconds("upgrade", time.Since(began))
	h.runs()
	if h.pid() == pid {
		h.t.Error("it is the old process")
	}
	time.Sleep(time.Second)
	end()
	if again := h.arrived("upgraded"); again > 0 {
		h.t.Errorf("%d records came again", again)
	}
	h.settled("upgraded", "delivered", h.inserted("upgraded"))
}

// uninstall types what README.md says, and looks for what is left.
func (h *host) uninstall() {
	h.types(h.block("Uninstall", 0))
	if out, code := h.tries("systemctl status leadrelay"); code != 4 { // no such unit
		h.t.Errorf("systemctl status: exit code %d\n%s", code, out)
	}
	if left := output(h.t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "*leadrelay*"); left != "" {
		h.t.Errorf("systemd knows of %s", left)
	}
	if got := output(h.t, "ls", "/var/lib/leadrelay"); !strings.Contains(got, "ledger.db") {
		h.t.Errorf("of the ledger is left %q", got)
	}
	h.types(h.block("Uninstall", 1))
	if out, code := h.tries("getent passwd leadrelay || getent group leadrelay"); code == 0 {
		h.t.Errorf("of the user is left %s", out)
	}
	for name := range h.files() {
		if _, was := h.before[name]; !was && !strings.HasPrefix(name, checkout) {
			h.t.Errorf("%s is left", name)
		}
	}
	for name := range h.before {
		if _, err := os.Lstat(name); err != nil {
			h.t.Errorf("%s is gone", name)
		}
	}
}

// files are the files and folders of the machine that an installation could leave behind.
func (h *host) files() map[string]string {
	h.t.Helper()
	files := map[string]string{}
	find := []string{"/etc", "/usr", "/var", "/run", "/srv", "/home", "/root", "/opt", "/tmp", "-xdev"}
	for _, others := range []string{
		"/var/log", "/run/log", "/run/systemd", "/var/lib/postgresql", "/run/postgresql", "/opt/booted",
		"/run/agetty.reload", // systemd's, where a name of the machine has changed
	} {
		find = append(find, "-path", others, "-prune", "-o")
	}
	for line := range strings.Lines(output(h.t, "find", append(find, "-print")...)) {
		name := strings.TrimSuffix(line, "\n")
		files[name] = name
	}
	return files
}
