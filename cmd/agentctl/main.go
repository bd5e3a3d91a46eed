// Command agentctl is the operator's tool: it writes a node's first files,
// signs what the ring is to run, and shows what it runs.
//
// It holds no logic of the ring: it parses and signs with spec and spec/record,
// and asks agentd through package api. The operator's key is read here and
// never leaves this process. Stdout carries the answer, stderr everything else.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}
