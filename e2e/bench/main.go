// Command bench measures what agentd promises in numbers, next to the floor:
// what containerd's own client takes for the same, in the same run on the same
// machine. It prints a table and exits 1 when a number is beyond 1.5 times its
// limit.
//
//	bench         several repetitions and a long idle window, about 3 minutes
//	bench -short  once over, without limits: does it still measure?
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"
)

// tolerance is how far beyond its limit a number may be before the bench
// fails: machines differ and have other things to do.
const tolerance = 1.5

// plan is how thorough a run is.
type plan struct {
	repetitions int
	settle      time.Duration // before the idle window
	window      time.Duration // of the idle agent's measurement
	limits      bool
	only        string // the one part to measure; "" all
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	short := fs.Bool("short", false, "once over, without limits")
	only := fs.String("only", "", "measure only `PART`: simulated, real, or of real apply, killed, idle, restart, many or idle-20")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p := plan{repetitions: 9, settle: 10 * time.Second, window: 40 * time.Second, limits: true}
	if *short {
		p = plan{repetitions: 2, settle: time.Second, window: 4 * time.Second}
	}
	p.only = *only
	var all []result
	for _, part := range []struct {
		name    string
		measure func(context.Context, plan, io.Writer) ([]result, error)
	}{{"real", realParts}, {"simulated", simulated}} {
		if p.only != "" && (p.only == "simulated") != (part.name == "simulated") {
			continue
		}
		found, err := part.measure(ctx, p, stderr)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if err := printTable(stdout, all); err != nil {
		return err
	}
	return judge(all, p)
}

// result is one line of the table. With a floor, the limit is a ratio to it.
type result struct {
	name     string
	measured float64
	floor    float64 // 0: there is none
	limit    float64 // 0: for information
	unit     string  // ms, MB, %, s
}

// against is what the limit is compared with.
func (r result) against() float64 {
	if r.floor > 0 {
		return r.measured / r.floor
	}
	return r.measured
}

func (r result) verdict() string {
	switch v := r.against(); {
	case r.limit == 0:
		return "-"
	case v <= r.limit:
		return "ok"
	case v <= r.limit*tolerance:
		return "over"
	default:
		return "FAILED"
	}
}

func printTable(w io.Writer, all []result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tMEASURED\tFLOOR\tRATIO\tLIMIT\tRESULT")
	for _, r := range all {
		floor, ratio, limit := "-", "-", fmt.Sprintf("%.4g%s", r.limit, r.unit)
		if r.floor > 0 {
			floor, ratio = fmt.Sprintf("%.4g%s", r.floor, r.unit), fmt.Sprintf("%.2f", r.against())
			limit = fmt.Sprintf("%.2fx", r.limit)
		}
		if r.limit == 0 {
			limit = "-"
		}
		fmt.Fprintf(tw, "%s\t%.4g%s\t%s\t%s\t%s\t%s\n", r.name, r.measured, r.unit, floor, ratio, limit, r.verdict())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, notes)
	return err
}

// notes tell what the floors are.
const notes = `# MEASURED and FLOOR are medians of the same run, taken in turns.
# apply-to-running-on-3, killed-to-running-again: the floor is ctr, a process
#   per call, with ctr's own container setup and output to a file.
# restart, 20-daemons-from-nothing: the floor is containerd's Go client in a
#   process that is there already, with the setup, seccomp profile and logger of
#   agentd's containers; 20 are started four at a time. Ours begin with a SIGKILL
#   and with typing agentctl uncordon; both end when /proc has the processes.
# restart-floor-without-logger: the same with nobody taking the floor's output.
`

// judge makes an error of what is beyond tolerance.
func judge(all []result, p plan) error {
	var errs []error
	for _, r := range all {
		if r.verdict() == "FAILED" && p.limits {
			errs = append(errs, fmt.Errorf("%s: %.4g is beyond %.2g times its limit of %.4g", r.name, r.against(), tolerance, r.limit))
		}
	}
	return errors.Join(errs...)
}
