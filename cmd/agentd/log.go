package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/agentd/agentd/agent/config"
)

// handler makes the log that [log] asks for: entries with fields where stderr is
// the journal, lines on stderr anywhere else.
func handler(cfg config.Config, level slog.Leveler, stderr io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if toJournal(stderr) {
		return newJournalHandler(cfg, level, stderr)
	}
	return lines(cfg.Log, stderr, opts)
}

// toJournal reports whether what is written there becomes entries of the journal.
func toJournal(stderr io.Writer) bool {
	if stderr != os.Stderr {
		return false
	}
	is, err := journal.StderrIsJournalStream()
	return err == nil && is
}

// lines writes each record as a line.
func lines(c config.Log, w io.Writer, opts *slog.HandlerOptions) slog.Handler {
	if c.Format == "json" {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}

// levelOf is the level that [log] asks for; config.Load checked it.
func levelOf(c config.Log) slog.Level {
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		return slog.LevelInfo
	}
	return level
}
