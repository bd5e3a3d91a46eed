// Package probe asks a running instance whether it is well: by HTTP, by TCP, or
// by a command inside its container.
//
// Promises:
//   - An attempt of a probe begins only after the one before it ended: attempts
//     never pile up, however long one hangs, and each ends at its timeout.
//   - A command that hangs is killed, and nothing else in its container is.
//   - Only what was asked and answered counts. A runtime that does not answer,
//     an instance that ended and a failure of agentd itself say nothing about
//     health.
//   - Every verdict has a reason in words, which stays the same while the
//     verdict does.
//
// What follows from an answer is decided by pure values: Tally (one probe) and
// Status (all of an instance). Watcher asks, with at most two goroutines per
// instance: one for startup and then liveness, one for readiness.
//
// Concurrency: Status and Tally are values. The methods of Asker and Watcher
// may be called from any goroutine.
package probe
