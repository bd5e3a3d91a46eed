// Command sbom writes a CycloneDX 1.5 document of what is in Go programs, from
// what the Go linker wrote into them: no source, no network and no clock is
// asked, so the same programs give the same bytes.
//
//	sbom VERSION PROGRAM... >agentd.cdx.json
//
// The time in it is SOURCE_DATE_EPOCH's.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout, os.Stderr)) }

func run(args []string, epoch string, stdout, stderr io.Writer) int {
	if len(args) < 2 {
		fmt.Fprintln(stderr, "usage: sbom VERSION PROGRAM...")
		return 2
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		fmt.Fprintf(stderr, "sbom: SOURCE_DATE_EPOCH: %v\n", err)
		return 2
	}
	var programs []program
	for _, path := range args[1:] {
		p, err := readProgram(path)
		if err != nil {
			fmt.Fprintf(stderr, "sbom: %v\n", err)
			return 1
		}
		programs = append(programs, p)
	}
	b, err := encode(document(args[0], time.Unix(seconds, 0).UTC(), programs))
	if err == nil {
		_, err = stdout.Write(b)
	}
	if err != nil {
		fmt.Fprintf(stderr, "sbom: %v\n", err)
		return 1
	}
	return 0
}
