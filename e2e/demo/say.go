package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/agentd/agentd/e2e/lab"
)

// teller prints the story: headings, explanations, commands with their output,
// and what was observed.
type teller struct {
	out    io.Writer
	env    []string // of the commands; the reader is told to export the same
	step   int
	checks int
}

// heading starts a step.
func (t *teller) heading(format string, args ...any) {
	t.step++
	fmt.Fprintf(t.out, "\n--- %d. %s\n", t.step, fmt.Sprintf(format, args...))
}

// say explains.
func (t *teller) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		fmt.Fprintf(t.out, "# %s\n", strings.TrimRight(line, "\n"))
	}
}

// observed notes a fact that was looked up, and counts it.
func (t *teller) observed(format string, args ...any) {
	t.checks++
	fmt.Fprintf(t.out, "  ok: %s\n", fmt.Sprintf(format, args...))
}

// sh shows a command line and runs exactly that with bash; an exit other than
// 0 is an error. Its output is shown.
func (t *teller) sh(ctx context.Context, line string) (string, error) {
	fmt.Fprintf(t.out, "$ %s\n", line)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	res, err := lab.ExecEnv(ctx, t.env, "", "bash", "-o", "pipefail", "-c", line)
	if err != nil {
		return "", err
	}
	t.indent(res.Stdout)
	t.indent(res.Stderr)
	if res.Code != 0 {
		return res.Stdout, fmt.Errorf("exit %d of: %s", res.Code, line)
	}
	return res.Stdout, nil
}

// show prints a command line that something else has just carried out.
func (t *teller) show(line string) { fmt.Fprintf(t.out, "$ %s\n", line) }

func (t *teller) indent(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(t.out, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

// file writes a file and shows it as a command that would write the same.
func (t *teller) file(path, shown, text string) error {
	fmt.Fprintf(t.out, "$ cat > %s <<'END'\n%s\nEND\n", shown, strings.TrimSuffix(text, "\n"))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", shown, err)
	}
	return nil
}
