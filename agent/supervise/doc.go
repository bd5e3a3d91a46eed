// Package supervise says WHEN: it keeps exactly one container of each wanted
// daemon running on this node, and explains what it does in words.
//
// Promises:
//   - At most one container of a daemon at any moment, and one as soon as the
//     node can. Attempts never end for a daemon that the spec wants. With
//     update.surge there are at most two, while one takes over from the other.
//   - Fail static: absence from Set, the end of Run, an unavailable runtime, a
//     failing pull, a policy that got stricter or a panic of our own never stop
//     a running container. Only a signed delete, a selector that does not match
//     (any more), a new digest that is ready to be started, and StopAll do.
//   - Before a container is stopped for a new digest, the new image is present,
//     its files are rendered and the policy was checked. While that lasts, or
//     fails, what is here is restarted in place whenever it ends.
//   - What is known about a container lives in its labels: a restarted agent
//     rebuilds restarts, back-off, health and finished runs from what it finds.
//     Kept on disk are the ends of jobs, since a job runs once even when its
//     container is gone, and what was started or handed over last, which may
//     have to start again when its record is not the wanted one any more.
//   - A daemon is started after what it depends on is ready here, and stopped
//     before it when both have to go; waiting for that has an end. A failing
//     dependency stops nothing.
//   - What is decided about is the daemon as it is rendered for this node, and
//     its digest is the rendered one.
//   - One daemon's failure, hang or panic never holds up another.
//   - Every state has a reason.
//
// Every decision is a pure function: Plan (what to do next), Pair (which
// containers matter), History.Observe (what was seen), probe.Status (what the
// probes mean), RefuseRestart, Render (what to run) and Backoff.Delay (when to
// try again). The rest of the package carries their results out and decides
// nothing.
//
// Concurrency: Run owns one goroutine per daemon, each of which owns its
// daemon's history and has at most one step under way. Besides, it may prepare
// an image, which touches no container, and during a surge take the container
// away that is not needed any more. The methods of Supervisor may be called from
// any goroutine; they never block on a container, except StopAll, which is there
// to wait.
package supervise
