package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// NewID draws a lab id: short, because it ends up in socket paths, and safe as
// a name for network namespaces, containerd namespaces and files.
func NewID(prefix string) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// Magic numbers of statfs(2).
const overlayMagic = 0x794c7630

// TempBases are the folders that TempDir tries, the preferred one first.
func TempBases() []string {
	bases := []string{os.TempDir(), "/var/tmp", "/dev/shm"}
	return slices.Compact(bases)
}

// TempDir makes a new folder on a file system that overlayfs can be stacked
// on, which another overlay (a container's root) is not.
func TempDir(prefix string) (string, error) {
	for _, base := range TempBases() {
		var st syscall.Statfs_t
		if err := syscall.Statfs(base, &st); err != nil || uint32(st.Type) == overlayMagic {
			continue
		}
		dir := filepath.Join(base, NewID(prefix))
		if err := os.Mkdir(dir, 0o711); err != nil {
			continue
		}
		return dir, nil
	}
	return "", fmt.Errorf("make a temporary folder: none of %s, /var/tmp and /dev/shm is a writable file system other than overlayfs (set TMPDIR)", os.TempDir())
}

// Missing tells in words why this machine lacks a thing, or "" when it has it:
//
//	root         runs as uid 0 and may mount
//	containerd   containerd, its shim, ctr and runc are installed, cgroups are there
//	netns        ip and nsenter are installed and network namespaces can be made
//	nft          nft is installed and works
//	exporter     Debian's apt is there, for prometheus-node-exporter
//	bin          bin/agentd and bin/agentctl are built
//	nspawn       systemd-nspawn, debootstrap and nft are installed, to boot machines
//	qemu         QEMU and what makes its disks are installed, to boot a kernel
func Missing(ctx context.Context, thing string) string {
	switch thing {
	case "root":
		if os.Geteuid() != 0 {
			return "not running as root"
		}
		return fails(ctx, "unshare", "--mount", "true")
	case "containerd":
		if why := absent("containerd", "containerd-shim-runc-v2", "ctr", "runc"); why != "" {
			return why
		}
		if _, err := os.ReadDir("/sys/fs/cgroup"); err != nil {
			return "no cgroups: " + err.Error()
		}
		return ""
	case "netns":
		if why := absent("ip", "nsenter"); why != "" {
			return why
		}
		return fails(ctx, "unshare", "--net", "true")
	case "nft":
		if why := absent("nft"); why != "" {
			return why
		}
		return fails(ctx, "unshare", "--net", "nft", "add table bridge probe")
	case "exporter":
		return absent("apt-get", "dpkg-deb")
	case "bin":
		if _, err := Bin("agentd"); err != nil {
			return err.Error()
		}
		if _, err := Bin("agentctl"); err != nil {
			return err.Error()
		}
		return ""
	case "nspawn":
		return absent("systemd-nspawn", "debootstrap", "nft", "ip", "nsenter", "containerd", "ctr")
	case "qemu":
		return absent("qemu-system-x86_64", "mkfs.ext4", "debootstrap")
	default:
		return "nobody knows how to look for it"
	}
}

func absent(programs ...string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return p + " is not installed"
		}
	}
	return ""
}

func fails(ctx context.Context, argv ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := Must(ctx, argv...); err != nil {
		return err.Error()
	}
	return ""
}

// Root is the folder of agentd's sources, found from the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the sources: %w", err)
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/agentd/agentd\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("find the sources: no go.mod of agentd above the working directory")
		}
		dir = parent
	}
}

// Bin is the path of a program of `make build`; AGENTD_BIN names another folder.
func Bin(name string) (string, error) {
	dir := os.Getenv("AGENTD_BIN")
	if dir == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built (make build): %w", name, err)
	}
	return path, nil
}
