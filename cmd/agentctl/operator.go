package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/agentd/agentd/spec/record"
)

// keyPath returns where the operator's key is, and whether somebody named it:
// a named key is never fallen back from.
func (a *app) keyPath() (path string, named bool, err error) {
	if a.keyFile != "" {
		return a.keyFile, true, nil
	}
	if p := a.env("AGENTCTL_KEY"); p != "" {
		return p, true, nil
	}
	home := a.env("HOME")
	if home == "" {
		return "", false, withHint(errors.New("there is no home folder to look for the operator key in"), "name it with --key or AGENTCTL_KEY")
	}
	return filepath.Join(home, ".config", "agentd", "operator.key"), false, nil
}

// operatorKey reads the key that signs records.
func (a *app) operatorKey() (record.PrivateKey, error) {
	path, named, err := a.keyPath()
	if err != nil {
		return record.PrivateKey{}, err
	}
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no operator key at %s", path)
		if named {
			return key, withHint(err, "agentctl key new makes one there")
		}
		return key, withHint(err, "agentctl init made one where the ring began (/root/.config/agentd/operator.key with sudo); "+
			"copy it here, or name it with --key")
	}
	return key, err
}

// readKey reads a private key that nobody else may read.
func readKey(path string) (record.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return record.PrivateKey{}, withHint(fmt.Errorf("read operator key: %w", err), "try again with sudo, or name your own key with --key")
		}
		return record.PrivateKey{}, fmt.Errorf("read operator key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return record.PrivateKey{}, fmt.Errorf("read operator key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return record.PrivateKey{}, fmt.Errorf("read operator key: %s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return record.PrivateKey{}, withHint(fmt.Errorf("operator key %s can be read by others (mode %04o)", path, mode), "chmod 600 %s", path)
	}
	text, err := readAll(f, 64<<10) // a key is a line of about 100 bytes, and comments
	if err != nil {
		return record.PrivateKey{}, fmt.Errorf("read operator key %s: %w", path, err)
	}
	key, err := record.ParsePrivateKey(text)
	if err != nil {
		return record.PrivateKey{}, fmt.Errorf("read operator key %s: %w", path, err)
	}
	return key, nil
}

// whoami is who works here, for a key's comment: "alice@laptop".
func (a *app) whoami() string {
	name := a.env("SUDO_USER")
	for _, v := range []string{"USER", "LOGNAME"} {
		if name == "" {
			name = a.env(v)
		}
	}
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	if name == "" {
		name = fmt.Sprintf("uid-%d", os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// author is what records name as their author, for display only.
func (a *app) author(key record.PrivateKey) string {
	if c := key.Public().Comment; c != "" {
		return c
	}
	return a.whoami()
}
