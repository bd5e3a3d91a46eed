// Command agentd-mend removes the bundle of a container that an interrupted
// start left behind, with the mounts in it. agentd has systemd run it outside of
// agentd's own sandbox, as agentd-mend@.service; it does nothing else.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/agentd/agentd/runtime/bundle"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

// run exits 0 when the bundle is gone, 1 when it could not be removed and 2 when
// it was called wrongly.
func run(args []string, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintf(stderr, "usage: agentd-mend BUNDLE   (/run/containerd/%s/NAMESPACE/ID)\n", bundle.Part)
		return 2
	}
	if err := bundle.Check(args[0]); err != nil {
		fmt.Fprintf(stderr, "agentd-mend: %v\n", err)
		return 2
	}
	if err := bundle.Remove(args[0]); err != nil {
		fmt.Fprintf(stderr, "agentd-mend: %v\n", err)
		return 1
	}
	return 0
}
