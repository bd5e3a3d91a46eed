package machines

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/agentd/agentd/e2e/lab"
)

// EnvCache names another folder for what is kept between runs.
const EnvCache = "AGENTD_E2E_CACHE"

// Cache is the folder of what is kept between runs.
func Cache() string {
	if dir := os.Getenv(EnvCache); dir != "" {
		return dir
	}
	return "/var/cache/agentd-e2e"
}

// Tree is the folder of a Debian tree to boot machines from, which nobody may
// write to. It is made by tree.sh when the cache has none of that recipe.
func Tree(ctx context.Context) (string, error) {
	root, err := lab.Root()
	if err != nil {
		return "", err
	}
	script := filepath.Join(root, "e2e", "machines", "tree.sh")
	return Cached(ctx, "tree", []string{script}, script)
}

// Cached is the path of what a command makes, which gets that path as its last
// argument; it is not run when it ran before with the same recipe files. The
// command has to make the path in one step, at its end.
func Cached(ctx context.Context, kind string, recipe []string, argv ...string) (string, error) {
	sum := sha256.New()
	for _, file := range recipe {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read recipe: %w", err)
		}
		sum.Write(b)
	}
	if err := os.MkdirAll(Cache(), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	path := filepath.Join(Cache(), fmt.Sprintf("%s-%x", kind, sum.Sum(nil)[:6]))
	unlock, err := lock(filepath.Join(Cache(), "."+kind+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintf(os.Stderr, "# making %s, once\n", path)
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], path)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("make %s: %w: %s", path, err, bytes.TrimSpace(said.Bytes()))
	}
	return path, nil
}

// lock waits for the lock on a file.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
