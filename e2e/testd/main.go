// Command testd is what the test images run: a small init that does as it is
// told and, unlike a bare sleep as PID 1, ends on SIGTERM at once.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	listen     string
	exitAfter  time.Duration
	exitCode   int
	ignoreTerm bool
	eatMemory  int
	spamLines  int
	printEnv   bool
	marker     string
	alone      string
	tick       time.Duration
	have       string
	version    bool
}

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testd:", err)
	}
	os.Exit(code)
}

func run(args []string, stdout io.Writer) (int, error) {
	var o options
	fs := flag.NewFlagSet("testd", flag.ContinueOnError)
	fs.StringVar(&o.listen, "listen", "", "serve HTTP on this `address`: / answers ok, /env the environment, /revision the image's revision")
	fs.DurationVar(&o.exitAfter, "exit-after", 0, "exit by itself after this long; 0: at once when --exit-code is set, else never")
	fs.IntVar(&o.exitCode, "exit-code", -1, "exit with this code after --exit-after")
	fs.BoolVar(&o.ignoreTerm, "ignore-term", false, "ignore SIGTERM")
	fs.IntVar(&o.eatMemory, "eat-memory", 0, "use this many `MiB` of memory")
	fs.IntVar(&o.spamLines, "spam-lines", 0, "print this many lines")
	fs.BoolVar(&o.printEnv, "print-env", false, "print the environment")
	fs.StringVar(&o.marker, "marker", "", "append a line to this `file` at every start")
	fs.StringVar(&o.alone, "alone", "", "hold a lock on this `file`; where another does, append a line to FILE.double")
	fs.DurationVar(&o.tick, "tick", 0, "print a numbered line of 200 bytes this often")
	fs.StringVar(&o.have, "have", "", "exit at once, with 0 where this `file` exists and with 1 where not")
	fs.BoolVar(&o.version, "version", false, "print the image's revision and exit")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if o.version {
		fmt.Fprint(stdout, revision())
		return 0, nil
	}
	if o.have != "" {
		if _, err := os.Stat(o.have); err != nil {
			return 1, err
		}
		return 0, nil
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if o.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	} else {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
	}
	go reap()

	fmt.Fprintf(stdout, "testd revision %s started, pid %d\n", revision(), os.Getpid())
	if err := o.prepare(stdout); err != nil {
		return 1, err
	}
	if o.listen != "" {
		ln, err := net.Listen("tcp", o.listen)
		if err != nil {
			return 1, err
		}
		go func() {
			fmt.Fprintln(os.Stderr, "testd:", http.Serve(ln, handler()))
		}()
	}
	if o.tick > 0 {
		go ticks(ctx, stdout, o.tick)
	}
	return o.wait(ctx), nil
}

// ticks prints lines whose numbers tell when one is missing. It stands still
// while nobody takes them.
func ticks(ctx context.Context, stdout io.Writer, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for i := 1; ; i++ {
		fmt.Fprintf(stdout, "tick %d %s\n", i, strings.Repeat(".", 200))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// prepare does what is done once, before waiting.
func (o options) prepare(stdout io.Writer) error {
	if o.marker != "" {
		f, err := os.OpenFile(o.marker, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		fmt.Fprintf(f, "start %d\n", time.Now().UnixNano())
		if err := f.Close(); err != nil {
			return err
		}
	}
	if o.alone != "" {
		if err := alone(o.alone); err != nil {
			return err
		}
	}
	if o.printEnv {
		fmt.Fprintln(stdout, strings.Join(os.Environ(), "\n"))
	}
	for i := range o.spamLines {
		fmt.Fprintf(stdout, "line %d of %d %s\n", i+1, o.spamLines, strings.Repeat("x", 80))
	}
	if o.eatMemory > 0 {
		hog := make([]byte, o.eatMemory<<20)
		for i := 0; i < len(hog); i += 4096 {
			hog[i] = 1
		}
		fmt.Fprintf(stdout, "ate %d MiB\n", len(hog)>>20)
		go func() { <-make(chan struct{}); _ = hog[0] }() // keep it
	}
	return nil
}

// alone takes a lock that the kernel gives back when this process ends, however
// it ends, and tells of it when somebody else has it.
func alone(path string) error {
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR|syscall.O_CLOEXEC, 0o644) // kept until the end
	if err != nil {
		return err
	}
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return nil
	}
	f, err := os.OpenFile(path+".double", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintf(f, "%s: started while another ran\n", time.Now().UTC().Format(time.RFC3339Nano))
	return f.Close()
}

// wait returns the exit code when it is time to end.
func (o options) wait(ctx context.Context) int {
	var timer <-chan time.Time
	if o.exitAfter > 0 || o.exitCode >= 0 {
		timer = time.After(o.exitAfter)
	}
	select {
	case <-ctx.Done():
		return 0
	case <-timer:
		return max(o.exitCode, 0)
	}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("/revision", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, revision()) })
	return mux
}

// revision is what distinguishes the tags of the test image.
func revision() string {
	b, err := os.ReadFile("/revision")
	if err != nil {
		return "none"
	}
	return string(b)
}

// reap collects children that were left to us, as an init has to.
func reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for range children {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}
