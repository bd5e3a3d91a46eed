package main

import (
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/agentd/agentd/agent"
	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/logs"
	"github.com/agentd/agentd/runtime/logfile"
	"github.com/agentd/agentd/runtime/logger"
)

// wireOutput decides where containers write and who reads it: to a logger of
// their own, or, where its program is not installed, to a file that containerd
// appends to and agentd rotates. It returns where a reload puts other limits:
// files are measured by them at once, a logger has those that its container was
// started with.
func wireOutput(c *agent.Config, cfg config.Config, log *slog.Logger) *atomic.Pointer[config.Log] {
	limits := new(atomic.Pointer[config.Log])
	limits.Store(&cfg.Log)
	// Also beside loggers: an adopted container may still write to a plain file.
	c.Rotate = func(path string, _ int64, _ int) error {
		now := limits.Load()
		return logfile.Rotate(path, logfile.Limits{MaxSize: int64(now.MaxSize), MaxFiles: now.MaxFiles})
	}
	self, err := os.Executable()
	if err != nil {
		self = "" // the installed place is left to look at
	}
	program, err := logger.Find(self)
	if err != nil {
		log.Warn("containers write to plain files", "reason", err)
		return limits
	}
	sink := cfg.Log.ContainerLogs(config.JournalSocket)
	if sink == logger.SinkJournald {
		c.Logs = logs.Journal{Namespace: cfg.Runtime.Namespace}
	}
	c.LogURI = func(daemon, path string) string {
		now := limits.Load()
		uri, err := logger.Options{
			Daemon: daemon, Sink: sink, Path: path, MaxSize: int64(now.MaxSize), MaxFiles: now.MaxFiles,
		}.URI(program)
		if err != nil {
			log.Warn("container writes to a plain file", "daemon", daemon, "reason", err)
			return ""
		}
		return uri
	}
	return limits
}
