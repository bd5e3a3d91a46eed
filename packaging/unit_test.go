package packaging

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// units are those that the packages install.
var units = []string{"agentd.service", "agentd-mend@.service", "agentd-ready.service", "agentd-ready.target", "agentd.socket"}

func readUnit(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// systemd finds nothing to complain about.
func TestUnitsVerify(t *testing.T) {
	need(t, "systemd-analyze")
	for _, u := range units {
		// The programs are not installed on this machine: that alone is no fault.
		b, _ := exec.Command("systemd-analyze", "verify", "--man=no", "./"+u).CombinedOutput()
		for line := range strings.Lines(string(b)) {
			if !strings.Contains(line, "is not executable") && strings.Contains(line, "agentd") {
				t.Errorf("%s: %s", u, line)
			}
		}
	}
}

// What an attacker in agentd could do to the machine stays bounded.
func TestUnitsExposure(t *testing.T) {
	need(t, "systemd-analyze")
	score := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`)
	for _, u := range units {
		if !strings.HasSuffix(u, ".service") {
			continue
		}
		b, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "./"+u).CombinedOutput()
		m := score.FindSubmatch(b)
		if m == nil {
			t.Skipf("systemd-analyze security: %v: %s", err, b) // before 250
		}
		if got, err := strconv.ParseFloat(string(m[1]), 64); err != nil || got > 4.0 {
			t.Errorf("%s: exposure %s, want 4.0 at most", u, m[1])
		}
	}
}

// A watchdog's SIGABRT and a panic end a Go program with 2, which must not count
// as "called wrongly"; and nothing of the unit reaches containers or loggers.
func TestUnitNeverGivesUp(t *testing.T) {
	text := readUnit(t, "agentd.service")
	for _, want := range []string{"Type=notify\n", "Restart=always\n", "StartLimitIntervalSec=0\n", "KillMode=mixed\n", "OOMPolicy=continue\n", "\nWants=containerd.service\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("agentd.service lacks %q", want)
		}
	}
	for _, no := range []string{
		"RestartPreventExitStatus", "\nRequires=", "\nBindsTo=", "\nPartOf=",
		// Daemons may mount what these hide.
		"PrivateTmp=yes", "PrivateDevices=yes", "ProtectHome=yes", "ProtectHome=tmpfs", "PrivateNetwork=yes",
	} {
		if strings.Contains(text, no) {
			t.Errorf("agentd.service has %q", strings.TrimSpace(no))
		}
	}
}

// The helper works on the machine's own mounts: nothing of its unit may give it
// a view of its own.
func TestMendHasNoMounts(t *testing.T) {
	for line := range strings.Lines(readUnit(t, "agentd-mend@.service")) {
		key, _, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		for _, own := range []string{"ProtectSystem", "ProtectHome", "ProtectKernel", "ProtectProc", "ProcSubset", "ProtectControlGroups", "Private", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "RootDirectory", "StateDirectory", "MountFlags", "DynamicUser"} {
			if strings.HasPrefix(key, own) {
				t.Errorf("agentd-mend@.service: %s", strings.TrimSpace(line))
			}
		}
	}
}
