//go:build booted

package booted_test

import (
	"os"
	"regexp"
	"strings"
)

// credentials: a secret that is root's own is handed over by systemd, in clear and encrypted.
func (h *host) credentials() {
	const token = "a token that root keeps"
	h.edits() // systemctl edit
	h.write("acme.token", token+"\n")
	h.types(h.line("sudo install -m 0600 -o root -g root acme.token"))
	if out, code := h.tries("sudo -u leadrelay cat /etc/leadrelay/acme.token"); code == 0 {
		h.t.Errorf("the service's user reads root's file: %s", out)
	}
	h.credential(h.block("Credentials", 1), "clear", token)

	// Commands that need the secret are started by systemd; others need it not.
	h.types("cd / && sudo -u leadrelay leadrelay status")
	if out, code := h.tries("cd / && sudo -u leadrelay leadrelay run-now"); code != 2 || !strings.Contains(out, "acme.token") {
		h.t.Errorf("run-now without the credential: exit code %d\n%s", code, out)
	}
	if out := h.typesAtTerminal("cd / && " + h.line("sudo systemd-run")); !strings.Contains(out, "gathered 0, carried 0") {
		h.t.Errorf("run-now by systemd-run:\n%s", out)
	}

	text, err := os.ReadFile("/opt/booted/checkout/systemd/README.md")
	if err != nil {
		h.t.Fatal(err)
	}
	encrypt := regexp.MustCompile("`(sudo systemd-creds encrypt [^`]+)`").FindSubmatch(text)
	load := regexp.MustCompile("`(LoadCredentialEncrypted=[^`]+)`").FindSubmatch(text)
	if encrypt == nil || load == nil {
		h.t.Fatal("README.md does not say how to encrypt a credential")
	}
	h.types(string(encrypt[1]))
	h.types("sudo rm /etc/leadrelay/acme.token")
	h.credential("[Service]\n"+string(load[1])+"\n", "sealed", token)

	h.types("sudo rm -r /etc/systemd/system/leadrelay.service.d && sudo systemctl daemon-reload")
	output(h.t, "rm", "-f", "/var/lib/systemd/credential.secret") // the host's key, which systemd-creds made
}

// credential puts this into a drop-in, and looks for the token in what a chatbot's CRM gets.
func (h *host) credential(dropIn, chatbot, token string) {
	h.t.Helper()
	if err := os.WriteFile("/root/typed", []byte(dropIn), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.typesAtTerminal(h.line("sudo systemctl edit leadrelay"))
	h.configure(config("", webhook(chatbot, `immediate: true, headers: {Authorization: "Bearer ${file:acme.token}"}`)))
	h.types(h.line("sudo systemctl restart leadrelay"))
	h.insert(chatbot, 3)
	h.arrived(chatbot)
	h.mu.Lock()
	got := h.headers[chatbot]
	h.mu.Unlock()
	if got != "Bearer "+token {
		h.t.Errorf("the CRM got Authorization: %s", got)
	}
}

// edits makes an editor that types what stands in /root/typed.
func (h *host) edits() {
	h.t.Helper()
	if err := os.WriteFile("/usr/bin/editor", []byte("#!/bin/sh\ncat /root/typed >\"$1\"\n"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = os.Remove("/usr/bin/editor")
		_ = os.Remove("/root/typed")
	})
}
