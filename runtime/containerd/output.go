package containerd

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/agentd/agentd/runtime"
)

// output is where a container's output goes, as containerd's shim is told it.
//
// It is never a set of fifos (cio.NewCreator): with those a container blocks in
// pipe_write as soon as nobody reads them, which is what happens while no agent
// runs.
type output struct {
	uri  string // "" drops it
	file string // that the shim appends to; "" when it does not itself
}

// outputOf tells what is wrong with it before anything is stopped for it.
func outputOf(s runtime.Spec) (output, error) {
	if s.LogURI == "" {
		if s.LogPath == "" {
			return output{}, nil
		}
		if !filepath.IsAbs(s.LogPath) {
			return output{}, fmt.Errorf("log file %q: the path has to be absolute", s.LogPath)
		}
		return output{uri: (&url.URL{Scheme: "file", Path: s.LogPath}).String(), file: s.LogPath}, nil
	}
	u, err := url.Parse(s.LogURI)
	if err != nil {
		return output{}, fmt.Errorf("log URI: %w", err)
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return output{}, fmt.Errorf("log URI %q: the path has to be absolute", s.LogURI)
	}
	switch u.Scheme {
	case "file":
		return output{uri: s.LogURI, file: u.Path}, nil
	case "binary":
		st, err := os.Stat(u.Path)
		if err != nil {
			return output{}, fmt.Errorf("container logger: %w", err)
		}
		if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			return output{}, fmt.Errorf("container logger %s: not a program", u.Path)
		}
		return output{uri: s.LogURI}, nil
	}
	return output{}, fmt.Errorf("log URI %q: neither binary:// nor file://", s.LogURI)
}

// prepare makes the log file before the shim does, which would make it readable
// to everybody.
func (o output) prepare() error {
	if o.file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o750); err != nil {
		return fmt.Errorf("make the log folder: %w", err)
	}
	f, err := os.OpenFile(o.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return fmt.Errorf("make the log file: %w", err)
	}
	return f.Close()
}
