package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/spec/record"
	"github.com/agentd/agentd/spec/strict"
)

// Subject is what Examine looks at.
type Subject struct {
	File        string // agentd.toml
	OperatorKey string // path; "" or a missing file: there is none to check
	Runs        bool   // this node's agentd answers
}

// Examine looks at this machine. It also returns the configuration, nil when it
// can't be read; the machine is then looked at as if it had the defaults.
func Examine(ctx context.Context, m Machine, s Subject) ([]Finding, *config.Loaded) {
	loaded, list := configuration(s.File)
	cfg := config.Default()
	if loaded != nil {
		cfg = loaded.Config
		list = append(list, keys(cfg, s.OperatorKey)...)
		list = append(list, files(m, cfg)...)
		list = append(list, ports(m, cfg, s.Runs)...)
	}
	list = append(list, containerd(ctx, m, cfg.Runtime.Address)...)
	list = append(list, runc(ctx, m))
	list = append(list, cgroups(m)...)
	list = append(list, disks(ctx, m, cfg)...)
	list = append(list, clock(m))
	list = append(list, service(ctx, m)...)
	return list, loaded
}

// configuration reads agentd.toml and its drop-ins.
func configuration(file string) (*config.Loaded, []Finding) {
	loaded, err := config.Load(file)
	if err == nil {
		text := file
		if n := len(loaded.Files) - 1; n > 0 {
			text += fmt.Sprintf(" and %d drop-ins", n)
		}
		return loaded, []Finding{ok(CheckConfig, text+" can be read")}
	}
	var all *strict.Errors
	if !errors.As(err, &all) {
		return nil, []Finding{fail(CheckConfig, flat(err), "")}
	}
	var list []Finding
	for _, e := range all.List {
		fix := e.Hint
		e.Hint = ""
		list = append(list, fail(CheckConfig, flat(e), fix))
	}
	return nil, list
}

// keys checks the ring's key and the operators' keys.
func keys(cfg config.Config, operatorKey string) []Finding {
	var list []Finding
	if key, err := config.ReadRingKey(cfg.Ring.KeyFile); err != nil {
		list = append(list, ofFile(CheckKeys, err))
	} else {
		list = append(list, ok(CheckKeys, fmt.Sprintf("%s: %s, for nobody else to read", cfg.Ring.KeyFile, key)))
	}
	secrets := []string{filepath.Join(cfg.Node.DataDir, "node.key"), operatorKey}
	if cfg.Ring.PeerKeyFile != "" {
		secrets = append(secrets, cfg.Ring.PeerKeyFile)
	}
	for _, path := range secrets {
		if _, err := os.Lstat(path); path == "" || errors.Is(err, fs.ErrNotExist) {
			continue // made at the first start, or kept elsewhere
		}
		if err := config.CheckSecretFile(path); err != nil {
			list = append(list, ofFile(CheckKeys, err))
		}
	}
	operators, err := config.ReadTrustDir(cfg.Trust.Dir)
	switch {
	case err != nil:
		for _, one := range split(err) {
			list = append(list, ofFile(CheckTrust, one))
		}
	case len(operators) == 0:
		list = append(list, fail(CheckTrust, "no operator is trusted: every record is refused",
			"put the .pub file of an operator into "+cfg.Trust.Dir+", then: sudo systemctl reload agentd"))
	default:
		var names []string
		for _, k := range operators {
			names = append(names, strings.TrimSpace(k.ID()+" "+k.Comment))
		}
		list = append(list, ok(CheckTrust, "trusted: "+strings.Join(names, ", ")))
		if own, found := ownKey(operatorKey); found && !slices.ContainsFunc(operators, func(k record.PublicKey) bool { return k.ID() == own.ID() }) {
			list = append(list, warn(CheckTrust, fmt.Sprintf("your own key, %s in %s, is not among them: what you sign is refused here", own.ID(), operatorKey),
				"agentctl key list shows its public half, for "+cfg.Trust.Dir+" of every node; or name another key with --key"))
		}
	}
	return list
}

// ownKey is the public half of the operator key of whoever asks, if there is one
// that can be read.
func ownKey(path string) (record.PublicKey, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return record.PublicKey{}, false
	}
	key, err := record.ParsePrivateKey(b)
	if err != nil {
		return record.PublicKey{}, false
	}
	return key.Public(), true
}

// files checks agentd's own folder.
func files(m Machine, cfg config.Config) []Finding {
	dir := cfg.Node.DataDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{ok(CheckFiles, dir+" is made at the first start")}
	case err != nil:
		return []Finding{fail(CheckFiles, flat(err), needsRoot(m, err))}
	case !info.IsDir():
		return []Finding{fail(CheckFiles, dir+" is not a folder", "move it away, or name another [node] data_dir")}
	}
	if st, is := info.Sys().(*syscall.Stat_t); is && st.Uid != 0 && int(st.Uid) != m.EUID {
		return []Finding{fail(CheckFiles, fmt.Sprintf("%s is owned by user %d, not by root", dir, st.Uid), "chown root:root "+dir)}
	}
	if perm := info.Mode().Perm(); perm&0o027 != 0 {
		result := Warn
		if perm&0o022 != 0 {
			result = Fail
		}
		return []Finding{{CheckFiles, result, fmt.Sprintf("%s has mode %04o: more than root can use it", dir, perm), "chmod 750 " + dir}}
	}
	return []Finding{ok(CheckFiles, dir+" is root's alone")}
}

// ofFile is a problem with a file.
func ofFile(check string, err error) Finding {
	var hinted interface{ Hint() string }
	fix := ""
	if errors.As(err, &hinted) {
		fix = hinted.Hint()
	}
	return fail(check, flat(err), fix)
}

// split takes joined errors apart.
func split(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// needsRoot is what to do about a lack of rights.
func needsRoot(m Machine, err error) string {
	if errors.Is(err, fs.ErrPermission) && m.EUID != 0 {
		return "run this as root (sudo)"
	}
	return ""
}

func flat(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
