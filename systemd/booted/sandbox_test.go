//go:build booted

package booted_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// sandbox: a probe that is started as the service is, before it, tries what an intruder would.
func (h *host) sandbox() {
	// What the file system's own rights would let anybody do, and the sandbox does not.
	output(h.t, "install", "-d", "-m", "0777", "/srv/open", "/var/lib/open", "/run/open")
	output(h.t, "install", "-m", "0644", "/dev/null", "/home/ops/open")
	output(h.t, "install", "-m", "0644", "/dev/null", "/tmp/open")
	output(h.t, "install", "-d", "/etc/systemd/system/leadrelay.service.d")
	const dropIn = "/etc/systemd/system/leadrelay.service.d/probe.conf"
	if err := os.WriteFile(dropIn, []byte("[Service]\nExecStartPre=/opt/booted/booted.test probe\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	output(h.t, "systemctl", "daemon-reload")
	since := time.Now()
	output(h.t, "systemctl", "restart", "leadrelay")
	found := map[string]string{}
	if err := json.Unmarshal([]byte(h.says(since, `"become root"`).Message), &found); err != nil {
		h.t.Fatal(err)
	}
	for _, p := range probes {
		if got := found[p.name]; !slices.Contains(p.want, got) {
			h.t.Errorf("%s: %s, want %s", p.name, got, strings.Join(p.want, " or "))
		}
	}
	h.figure("things that the sandbox was asked for", fmt.Sprint(len(probes)))

	// The daemon itself.
	pid := fmt.Sprint(h.pid())
	status := output(h.t, "cat", "/proc/"+pid+"/status")
	for name, want := range map[string]string{
		"NoNewPrivs": "1", "Seccomp": "2", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		if got := regexp.MustCompile(`(?m)^` + name + `:\s+(\S+)$`).FindStringSubmatch(status); got == nil || got[1] != want {
			h.t.Errorf("the daemon's %s is %q, want %s", name, got, want)
		}
	}
	for _, place := range []string{"/etc", "/usr/local/bin", "/srv/open", "/run/open", "/etc/leadrelay"} { // root's rights are no help in its mounts
		out, err := exec.Command("nsenter", "--target", pid, "--mount", "touch", place+"/x").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Read-only file system") {
			h.t.Errorf("%s could be written by root in the daemon's mounts: %v %s", place, err, out)
		}
	}
	for _, dir := range []string{"/srv/open", "/var/lib/open", "/run/open", "/etc/systemd/system/leadrelay.service.d"} {
		output(h.t, "rm", "-r", dir)
	}
	output(h.t, "rm", "/home/ops/open", "/tmp/open")
	output(h.t, "systemctl", "daemon-reload")
	output(h.t, "systemctl", "restart", "leadrelay")
}
