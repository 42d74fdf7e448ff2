//go:build booted

package booted_test

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// sqlite: with the drop-in the service reads the SQLite database of an application that goes on writing, as its user.
// Without it the service is its own user's again.
func (h *host) sqlite() {
	output(h.t, "useradd", "--system", "--shell", "/bin/sh", "chatbots")
	output(h.t, "install", "-d", "-m", "0750", "-o", "chatbots", "-g", "chatbots", "/srv/chatbots")
	was := output(h.t, "cat", "/etc/leadrelay/config.yaml")

	h.types("cp systemd/sqlite-source.conf .") // the names in it are this machine's
	h.fromSQLite("/srv/chatbots", h.block("SQLite sources", 0))

	// A refusal names the user.
	out, code := h.tries("cd / && sudo -u leadrelay leadrelay status")
	if code == 0 || !strings.Contains(out, "permission denied") {
		h.t.Errorf("the former user's status ends with exit code %d:\n%s", code, out)
	}
	out, code = h.tries("cd / && sudo leadrelay status")
	if code != 1 || !strings.Contains(out, "run: sudo -u chatbots leadrelay status") {
		h.t.Errorf("root's status ends with exit code %d:\n%s", code, out)
	}

	// Below /home, as README.md says.
	output(h.t, "install", "-d", "-m", "0755", "-o", "chatbots", "-g", "chatbots", "/home/app", "/home/app/data")
	h.types(`sed -i 's|^ReadWritePaths=.*|ProtectHome=tmpfs\nBindPaths=/home/app/data|' sqlite-source.conf`)
	h.fromSQLite("/home/app/data", h.block("SQLite sources", 0))

	// And back.
	h.write("config.yaml", was)
	h.types("sudo rm -r /etc/systemd/system/leadrelay.service.d && sudo chgrp -R leadrelay /etc/leadrelay && sudo systemctl daemon-reload")
	h.configure(config("", webhook("back", "")))
	h.types(h.line("sudo systemctl restart leadrelay"))
	h.insert("back", 5)
	h.arrived("back")
	h.users()
	output(h.t, "userdel", "chatbots")
	output(h.t, "rm", "-r", "/srv/chatbots", "/home/app")
}

// fromSQLite makes an application in a folder, types the installation, and has the records of what it goes on writing
// delivered, also around a restart.
func (h *host) fromSQLite(folder, installation string) {
	h.t.Helper()
	database := folder + "/chatbots.db"
	chatbot := "sqlite" + strings.ReplaceAll(folder, "/", "-")
	asApplication := func(sql string) error {
		out, err := exec.Command("runuser", "--user", "chatbots", "--", "sqlite3", "-bail", "-cmd", ".timeout 5000", database, sql).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := asApplication(`pragma journal_mode = wal; create table leads (id integer primary key autoincrement, chatbot_id text,
		created_at text default current_timestamp, first_name text, last_name text, email text, phone_number text, content text, session_id integer, uri text)`); err != nil {
		h.t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { // a program of its own for each row: the last one to leave takes -wal and -shm away
		for {
			if err := asApplication("insert into leads (chatbot_id, first_name) values ('" + chatbot + "', 'Zdeňka')"); err != nil {
				ended <- err
				return
			}
			h.mu.Lock()
			h.rows[chatbot]++
			h.mu.Unlock()
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	text := strings.Replace(config("", webhook(chatbot, "immediate: true, from: beginning")), "postgres://leadrelay_reader:${file:/etc/leadrelay/source.pw}@127.0.0.1/chatbots", "sqlite:"+database, 1)
	h.configure("ledger: sqlite:/var/lib/leadrelay/" + chatbot + ".db\n" + text)
	h.types(installation)
	time.Sleep(2 * time.Second)
	h.types(h.line("sudo systemctl restart leadrelay"))
	time.Sleep(2 * time.Second)
	h.types(h.line("sudo systemctl stop leadrelay"))
	time.Sleep(time.Second)
	h.types("sudo systemctl start leadrelay")
	time.Sleep(time.Second)
	close(stop)
	if err := <-ended; err != nil {
		h.t.Fatalf("the application: %v", err)
	}
	if again := h.arrived(chatbot); again > 0 {
		h.t.Errorf("%d records came again", again)
	}
	for _, place := range []string{folder, "/var/lib/leadrelay"} {
		if others := output(h.t, "find", place, "!", "-user", "chatbots"); others != "" {
			h.t.Errorf("these are not the application's user's: %s", others)
		}
	}
	if out := h.types("cd / && sudo -u chatbots leadrelay status"); !strings.Contains(out, chatbot) {
		h.t.Errorf("status:\n%s", out)
	}
	h.figure("rows of "+database, fmt.Sprint(h.inserted(chatbot)))
}
