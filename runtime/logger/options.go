package logger

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Kinds of sinks.
const (
	SinkFile     = "file"
	SinkJournald = "journald"
)

// Program is the logger's file name, and InstalledProgram where packages put it.
const (
	Program          = "agentd-log"
	InstalledProgram = "/usr/libexec/agentd/" + Program
)

// JournalSocket is where journald takes entries in its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// Defaults of Options.
const (
	DefaultMaxSize  = 10 << 20
	DefaultMaxFiles = 3

	// journald itself takes 10,000 lines in 30 s of one unit (journald.conf,
	// RateLimitBurst), and all loggers are in containerd's: one daemon's share
	// has to leave room for the others.
	journaldRate  = 200
	journaldBurst = 2000
	// Files are bounded by their rotation; the rate keeps one daemon from
	// writing its own history over within a second, and from owning the disk.
	fileRate  = 10_000
	fileBurst = 20_000
)

// Options is what one logger does. agentd writes it into a URI, containerd
// makes arguments of that.
type Options struct {
	Daemon   string // whose output it is
	Sink     string // SinkFile or SinkJournald
	Path     string // the live file, absolute
	MaxSize  int64  // bytes of one file; default 10 MiB
	MaxFiles int    // with the live one; default 3
	Rate     int    // lines per second that are written for long; 0: the sink's default, less: no limit
	Burst    int    // lines that may come at once; 0: the sink's default
	Socket   string // journald's; default JournalSocket

	// Container and Namespace are what containerd says in the environment.
	Container, Namespace string
}

// filled returns o with defaults.
func (o Options) filled() Options {
	rate, burst := fileRate, fileBurst
	if o.Sink == SinkJournald {
		rate, burst = journaldRate, journaldBurst
	}
	if o.Rate == 0 {
		o.Rate = rate
	}
	if o.Burst <= 0 {
		o.Burst = max(burst, o.Rate)
	}
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxFiles <= 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.Socket == "" {
		o.Socket = JournalSocket
	}
	return o
}

// check tells what is wrong with o.
func (o Options) check() error {
	switch o.Sink {
	case SinkJournald:
	case SinkFile:
		if !filepath.IsAbs(o.Path) {
			return fmt.Errorf("log file %q: the path has to be absolute", o.Path)
		}
	default:
		return fmt.Errorf("unknown log sink %q", o.Sink)
	}
	if o.Daemon == "" || strings.ContainsAny(o.Daemon, "\n\x00") {
		return fmt.Errorf("bad daemon name %q", o.Daemon)
	}
	return nil
}

// URI is the log URI for containerd that starts program with these options.
func (o Options) URI(program string) (string, error) {
	if err := o.check(); err != nil {
		return "", err
	}
	if !filepath.IsAbs(program) {
		return "", fmt.Errorf("logger %q: the path has to be absolute", program)
	}
	q := url.Values{}
	set := func(key, value string) {
		if value != "" && value != "0" {
			q.Set(key, value)
		}
	}
	set("daemon", o.Daemon)
	set("sink", o.Sink)
	set("path", o.Path)
	set("max-size", strconv.FormatInt(o.MaxSize, 10))
	set("max-files", strconv.Itoa(o.MaxFiles))
	set("rate", strconv.Itoa(o.Rate))
	set("burst", strconv.Itoa(o.Burst))
	set("socket", o.Socket)
	return (&url.URL{Scheme: "binary", Path: program, RawQuery: q.Encode()}).String(), nil
}

// ParseArgs reads what containerd makes of a URI: each key followed by its
// value, in no order; container and namespace are in the environment.
func ParseArgs(args []string, getenv func(string) string) (Options, error) {
	o := Options{Container: getenv("CONTAINER_ID"), Namespace: getenv("CONTAINER_NAMESPACE")}
	if len(args)%2 != 0 {
		return o, errors.New("arguments are keys and values, in pairs")
	}
	for i := 0; i < len(args); i += 2 {
		if err := o.set(args[i], args[i+1]); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func (o *Options) set(key, value string) error {
	var err error
	switch key {
	case "daemon":
		o.Daemon = value
	case "sink":
		o.Sink = value
	case "path":
		o.Path = value
	case "socket":
		o.Socket = value
	case "max-size":
		o.MaxSize, err = strconv.ParseInt(value, 10, 64)
	case "max-files":
		o.MaxFiles, err = strconv.Atoi(value)
	case "rate":
		o.Rate, err = strconv.Atoi(value)
	case "burst":
		o.Burst, err = strconv.Atoi(value)
	}
	// What this version does not know a newer agentd asked for: a container
	// must not stay without a log because of that.
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Find returns the logger's path: beside the program that asks, self, or where
// packages put it.
func Find(self string) (string, error) {
	for _, p := range []string{filepath.Join(filepath.Dir(self), Program), InstalledProgram} {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Abs(p)
		}
	}
	return "", fmt.Errorf("the container logger is neither beside %s nor at %s", self, InstalledProgram)
}
