//go:build booted

package booted_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A probed thing is tried in the service's place.
type probed struct {
	name string
	try  func() error
	want []string // "" is success; else the error's end
}

var (
	allowed    = []string{""}
	readOnly   = []string{"read-only file system"}
	denied     = []string{"permission denied"}
	notAllowed = []string{"operation not permitted"}
	absent     = []string{"no such file or directory"}
	noFamily   = []string{"address family not supported by protocol"}
)

var probes = []probed{
	{"write to its state", writes(os.Getenv("STATE_DIRECTORY")), allowed},
	{"write to its own /tmp", writes("/tmp"), allowed},
	{"listen and connect on 127.0.0.1", connects, allowed},
	{"read its configuration", opens("/etc/leadrelay/config.yaml"), allowed},
	{"use /dev/null", opens("/dev/null"), allowed},

	{"write to /srv", writes("/srv/open"), readOnly},
	{"write to /var/lib", writes("/var/lib/open"), readOnly},
	{"write to /run", writes("/run/open"), readOnly},
	{"write to /run/lock", writes("/run/lock"), readOnly},
	{"write to /dev", writes("/dev"), readOnly},
	{"write to /dev/shm", writes("/dev/shm"), denied},
	{"write to /dev/mqueue", writes("/dev/mqueue"), denied},
	{"write to /sys", func() error { return os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("never"), 0) }, []string{"read-only file system", "permission denied"}},
	{"write to the control groups", writes("/sys/fs/cgroup"), []string{"read-only file system", "permission denied"}},
	{"see others' /tmp", opens("/tmp/open"), absent},
	{"read /home", lists("/home"), denied},
	{"read a file in /home", opens("/home/ops/open"), []string{"permission denied", "no such file or directory"}},
	{"read /root", lists("/root"), denied},
	{"see other processes", otherProcesses, absent},
	{"read the kernel's symbols", opens("/proc/kallsyms"), absent},
	{"read the kernel's log", opens("/dev/kmsg"), absent},
	{"read memory", opens("/dev/mem"), absent},
	{"write kernel settings", opens("/proc/sys/kernel/core_pattern"), absent},

	{"become root", call(unix.SYS_SETUID, 0), notAllowed},
	{"join another group", call(unix.SYS_SETGID, 0), notAllowed},
	{"run sudo", runs("/usr/bin/sudo", "--non-interactive", "true"), []string{"no new privileges"}},
	{"run su", runs("/bin/su", "--command", "true"), []string{"fails"}},
	{"have capabilities", capabilities, allowed},
	{"give a file away", gives, notAllowed},
	{"make a set-uid file", setUID, notAllowed},
	{"make a device", makesDevice, notAllowed},
	{"mount", func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }, notAllowed},
	{"make a user namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER), notAllowed},
	{"make a network namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWNET), notAllowed},
	{"change the root folder", func() error { return unix.Chroot("/tmp") }, notAllowed},
	{"trace a process", call(unix.SYS_PTRACE, unix.PTRACE_TRACEME), notAllowed},
	{"load a module", call(unix.SYS_INIT_MODULE), notAllowed},
	{"load a program into the kernel", call(unix.SYS_BPF), notAllowed},
	{"measure the machine", call(unix.SYS_PERF_EVENT_OPEN), notAllowed},
	{"restart the machine", call(unix.SYS_REBOOT, 1), notAllowed},
	{"set the clock", call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME), notAllowed},
	{"set the host's name", func() error { return unix.Sethostname([]byte("x")) }, notAllowed},
	{"swap", call(unix.SYS_SWAPON), notAllowed},
	{"read the kernel's log by a call", call(unix.SYS_SYSLOG, 2), notAllowed},
	{"raise its priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) }, notAllowed},
	{"run in real time", realtime, notAllowed},
	{"raise its limits", call(unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE), notAllowed},
	{"emulate another system", call(unix.SYS_PERSONALITY, 0x0008), notAllowed}, // PER_LINUX32
	{"write and execute memory", writesAndExecutes, notAllowed},
	{"send raw packets", socket(unix.AF_PACKET), noFamily},
	{"ask the kernel by netlink", socket(unix.AF_NETLINK), noFamily},
	{"reach the hypervisor", socket(unix.AF_VSOCK), noFamily},
}

// probe tries them all, and prints how each ended.
func probe(w io.Writer) {
	found := map[string]string{}
	for _, p := range probes {
		text := ""
		if err := p.try(); err != nil {
			text = err.Error()
			text = text[strings.LastIndex(text, ": ")+1:]
		}
		found[p.name] = strings.TrimSpace(text)
	}
	if err := json.NewEncoder(w).Encode(found); err != nil {
		os.Exit(1)
	}
}

func writes(dir string) func() error {
	return func() error {
		name := dir + "/probe"
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			return err
		}
		return os.Remove(name)
	}
}

func opens(name string) func() error {
	return func() error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return f.Close()
	}
}

func lists(dir string) func() error {
	return func() error { _, err := os.ReadDir(dir); return err }
}

func call(number uintptr, args ...uintptr) func() error {
	return func() error {
		var a [3]uintptr
		copy(a[:], args)
		if _, _, errno := syscall.RawSyscall(number, a[0], a[1], a[2]); errno != 0 {
			return errno
		}
		return nil
	}
}

func socket(family int) func() error {
	return func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// runs says what a program said where it failed.
func runs(name string, args ...string) func() error {
	return func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		switch {
		case err == nil:
			return nil
		case strings.Contains(string(out), "no new privileges"):
			return errors.New("no new privileges")
		}
		return errors.New("fails")
	}
}

func connects() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}

// otherProcesses looks for one that is not this user's.
func otherProcesses() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
			return nil
		}
	}
	return syscall.ENOENT
}

func capabilities() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":\t"); ok && strings.HasPrefix(name, "Cap") && strings.Trim(value, "0") != "" {
			return fmt.Errorf("%s is %s", name, value)
		}
	}
	return nil
}

func inState(f func(name string) error) error {
	name := os.Getenv("STATE_DIRECTORY") + "/probe"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return errors.Join(f(name), os.Remove(name))
}

func gives() error {
	return inState(func(name string) error { return os.Chown(name, 0, 0) })
}

func setUID() error {
	return inState(func(name string) error { return unix.Chmod(name, 0o4755) })
}

func makesDevice() error {
	return unix.Mknod(os.Getenv("STATE_DIRECTORY")+"/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
}

func realtime() error {
	param := int32(1)
	_, _, errno := syscall.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&param))) // SCHED_FIFO
	if errno != 0 {
		return errno
	}
	return nil
}

func writesAndExecutes() error {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
}
