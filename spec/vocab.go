package spec

import (
	"slices"
	"strconv"
	"strings"
)

// capAll stands for every capability.
const capAll = "ALL"

// capabilityNames returns the kernel's capabilities, as capabilities(7) lists
// them up to Linux 5.9, after which none was added.
func capabilityNames() []string {
	return []string{
		"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND",
		"CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE",
		"CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
		"CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE",
		"CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
		"CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
		"CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
		"CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
		"CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
		"CAP_WAKE_ALARM",
	}
}

// ValidCapability reports whether name, with or without "CAP_", is one of the
// kernel's, or ALL.
func ValidCapability(name string) bool {
	n := NormalCapability(name)
	return n == capAll || slices.Contains(capabilityNames(), n)
}

// ulimitNames returns the resources of setrlimit(2), as OCI runtimes name them
// without RLIMIT_ and in small letters.
func ulimitNames() []string {
	return []string{
		"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
		"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
	}
}

// signalNames returns the signals of signal(7) that can ask a process to end:
// all but those that only stop, continue or are sent by the kernel alone.
func signalNames() []string {
	return []string{
		"SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGKILL", "SIGUSR1", "SIGUSR2",
		"SIGALRM", "SIGTERM", "SIGWINCH", "SIGIO", "SIGPWR",
	}
}

// maxRealtime is how far SIGRTMIN+n may count: SIGRTMIN is 34 and SIGRTMAX 64.
const maxRealtime = 30

// validSignal reports whether a normal name is one of signalNames or
// SIGRTMIN+n, which init systems in containers are stopped with.
func validSignal(name string) bool {
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		if rest == "" {
			return true
		}
		digits, plus := strings.CutPrefix(rest, "+")
		n, err := strconv.ParseUint(digits, 10, 8)
		return plus && err == nil && n >= 1 && n <= maxRealtime && strconv.FormatUint(n, 10) == digits
	}
	return slices.Contains(signalNames(), name)
}
