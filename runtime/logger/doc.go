// Package logger is what the container logger, cmd/agentd-log, consists of:
// containerd starts one for each container, gives it the two output pipes and
// waits for nothing else of it.
//
// It promises, in this order: a container never blocks on its output, whether
// its sink is slow, full or gone, and whether agentd or containerd run; memory
// stays bounded; what is not written is counted and told in the log itself; a
// line is never torn by another one; what was read is written before the logger
// ends, as long as the sink takes it. It never ends while its pipes are open,
// because a container whose pipes nobody reads blocks, or gets SIGPIPE.
//
// One line's way: the pipes are read (logger.go), cut into lines of bounded
// length (split.go), counted against a token bucket (bucket.go), kept in a
// bounded buffer (intake.go) and written by one goroutine to rotated files
// (file.go, line.go tells the form) or to journald (journal.go). Options tells
// how agentd asks for all that.
//
// The logger's memory is paid once for each container: nothing heavy is
// imported here, above all no client of containerd.
package logger
