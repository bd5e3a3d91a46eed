package v2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentd/agentd/e2e/lab"
	"github.com/agentd/agentd/e2e/machines"
)

// bootLimit bounds a whole run, from power on to power off.
const bootLimit = 12 * time.Minute

// Image is the folder of a machine's kernel and disk, made when the cache has none.
func Image(ctx context.Context) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "e2e", "v2", "image.sh")
	return machines.Cached(ctx, "v2", []string{script, filepath.Join(root, "e2e", "machines", "tree.sh")}, script)
}

// VM is a machine that is about to run a script.
type VM struct {
	Dir   string // what the run needs and makes
	Image string // see Image; only read
}

// files is the folder that becomes the second disk.
func (v VM) files() string { return filepath.Join(v.Dir, "files") }

// Add makes a file of the second disk.
func (v VM) Add(name string, data []byte) error {
	if err := os.MkdirAll(v.files(), 0o755); err != nil {
		return fmt.Errorf("prepare the machine: %w", err)
	}
	if err := os.WriteFile(filepath.Join(v.files(), name), data, 0o755); err != nil {
		return fmt.Errorf("prepare the machine: %w", err)
	}
	return nil
}

// Run boots the machine, which runs the file named script, and returns what that
// said once the machine is off. Its disk is as it was before.
func (v VM) Run(ctx context.Context) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	disk, output, console := filepath.Join(v.Dir, "files.img"), filepath.Join(v.Dir, "said"), filepath.Join(v.Dir, "console.log")
	if _, err := lab.Must(ctx, "truncate", "-s", "256M", disk); err != nil {
		return "", err
	}
	if _, err := lab.Must(ctx, "mkfs.ext4", "-q", "-F", "-d", v.files(), disk); err != nil {
		return "", err
	}
	log, err := os.Create(console)
	if err != nil {
		return "", fmt.Errorf("run the machine: %w", err)
	}
	defer log.Close()
	// In this process's group, so that Ctrl-C ends it, and bounded by itself.
	qemu := exec.CommandContext(ctx, "timeout", "--foreground", fmt.Sprint(bootLimit.Seconds()),
		"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-smp", "2", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(v.Image, "vmlinuz"), "-initrd", filepath.Join(v.Image, "initrd.img"),
		"-append", "console=ttyS0 root=/dev/vda rw quiet net.ifnames=0 systemd.show_status=0",
		"-drive", "file="+filepath.Join(v.Image, "root.img")+",if=virtio,format=raw,snapshot=on",
		"-drive", "file="+disk+",if=virtio,format=raw,readonly=on",
		"-nic", "user,model=virtio-net-pci,restrict=on",
		"-serial", "stdio", "-serial", "file:"+output)
	qemu.Stdout, qemu.Stderr = log, log
	err = qemu.Run()
	b, readErr := os.ReadFile(output)
	if err = errors.Join(err, readErr); err != nil {
		tail, _ := os.ReadFile(console)
		err = fmt.Errorf("run the machine: %w; its console ends:\n%s", err, tail[max(0, len(tail)-4000):])
	}
	return strings.ReplaceAll(string(b), "\r", ""), err
}

// Sections cuts what a script said at its lines "== NAME".
func Sections(said string) map[string]string {
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(said) {
		if rest, ok := strings.CutPrefix(line, "== "); ok {
			name = strings.TrimSpace(rest)
			out[name] = ""
			continue
		}
		out[name] += line
	}
	for name, text := range out {
		out[name] = strings.TrimSpace(text)
	}
	return out
}
