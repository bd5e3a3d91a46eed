package bundle

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
)

// outsideLimit bounds one run of the helper, which takes milliseconds.
const outsideLimit = 30 * time.Second

// Sandboxed reports whether this process sees mounts of its own, as it does in
// a systemd unit with ProtectSystem= and the like. What is unmounted there
// stays mounted on the machine, and what is mounted on the machine cannot be
// removed there: systemd before 254 keeps a second, hidden view of all mounts
// in such a unit.
func Sandboxed() bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false
	}
	machine, err := os.Readlink("/proc/1/ns/mnt")
	return err == nil && own != machine
}

// RemoveOutside is Remove done by systemd outside of this process's sandbox: it
// starts agentd-mend@.service for the bundle and returns when that has ended.
func RemoveOutside(ctx context.Context, dir string) error {
	if err := Check(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outsideLimit)
	defer cancel()
	name := Unit(dir)
	out, err := exec.CommandContext(ctx, "systemctl", "start", name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove left-over bundle: systemctl start %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Unit is the systemd unit that removes the bundle dir.
func Unit(dir string) string {
	return "agentd-mend@" + unit.UnitNamePathEscape(dir) + ".service"
}
