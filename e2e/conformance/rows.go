package main

// section is one part of the list.
type section struct {
	Title string
	Rows  []row
}

// row is one behaviour.
type row struct {
	ID   string
	Text string
	// NotApplicable says why the row has no meaning here; Later what it waits
	// for while no test names it.
	NotApplicable, Later string
}

// rollouts is what several rows wait for.
const rollouts = "rolling updates are to come"

// rows is the whole list.
func rows() []section {
	return []section{
		{"A. Placement", []row{
			{ID: "A1", Text: "Exactly one on each node that is meant; one that is deleted by hand comes back."},
			{ID: "A2", Text: "A node joins: its daemons start there, and nothing changes elsewhere."},
			{ID: "A3", Text: "A node leaves: its daemons stop, those of the others do not notice."},
			{ID: "A4", Text: "Without nodes or without daemons nothing is done."},
			{ID: "A5", Text: "Where there is more than one, all but one go."},
			{ID: "A6", Text: "That something does not fit never costs what runs already its place."},
			{ID: "A7", Text: "A port that our own old instance holds does not keep the new one away; of two daemons that want one port the first keeps it, and the other says why it does not run."},
			{ID: "A8", Text: "A node that is alone, unreachable for others or under pressure runs its daemons all the same."},
		}},
		{"B. Selection", []row{
			{ID: "B1", Text: "Labels that match start a daemon, and stop it when they or the selector change."},
			{ID: "B2", Text: "A selector that is wrong or empty is refused; it never means every node."},
			{ID: "B3", Text: "A label that changes under a running daemon stops it."},
			{ID: "B4", Text: "A daemon can be pinned to nodes by name."},
			{ID: "B5", Text: "Taints: NoSchedule keeps what runs, NoExecute evicts it, and what tolerates them runs."},
			{ID: "B6", Text: "Draining stops all, cordoning lets nothing new start, uncordoning brings it back; a new revision restarts nothing on such a node."},
		}},
		{"C. Failure and restart", []row{
			{ID: "C1", Text: "An instance that failed is replaced, and nothing of it is left."},
			{ID: "C2", Text: "The wait between failures grows, has a bound, and starts anew after a healthy run."},
			{ID: "C3", Text: "Restart always, on failure or never; applying the same again does not revive what has finished, a change does."},
			{ID: "C4", Text: "Restarts are counted over an agent restart; those of an older revision do not count."},
			{ID: "C5", Text: "A start that fails is tried again, more slowly each time, and status tells."},
			{ID: "C6", Text: "The OOM killer's work is called so, SIGKILL is 137, and a pull that fails waits before the next."},
			{ID: "C7", Text: "A start that can succeed later is told apart from one that cannot."},
		}},
		{"D. Update and rollback", []row{
			{ID: "D1", Text: "Rolling replaces all within the budget; on-delete waits to be told.", Later: rollouts},
			{ID: "D2", Text: "A rollback half-way restarts no node that was not updated.", Later: rollouts},
			{ID: "D3", Text: "With surge there is one more per node at most, and the old one stays until the new one was ready for a while.", Later: rollouts},
			{ID: "D4", Text: "No change of the running part, no restart."},
			{ID: "D5", Text: "Unhealthy instances are replaced first, healthy ones spared.", Later: rollouts},
			{ID: "D6", Text: "A failed update pauses or rolls back; it has a deadline; the order may be start first.", Later: rollouts},
			{ID: "D7", Text: "Updates that come faster than instances stop end in the last one."},
		}},
		{"E. Deletion, orphans, adoption", []row{
			{ID: "E1", Text: "What is deleted stops everywhere, many at once too."},
			{ID: "E2", Text: "Nothing is started while it is being deleted, whatever comes first."},
			{ID: "E3", Text: "What was deleted while the agent was down stops when it is back."},
			{ID: "E4", Text: "Containers of others are never touched, in our namespace either."},
			{ID: "E5", Text: "A name can be deleted and used again."},
			{ID: "E6", Text: "What has ended is kept within bounds, and nothing leaks: containers, snapshots, bundles, logs."},
		}},
		{"F. Agent, runtime and machine restart", []row{
			{ID: "F1", Text: "An agent restart restarts no container."},
			{ID: "F2", Text: "However often the container runtime is killed, no container ends."},
			{ID: "F3", Text: "What ended while the agent was down is accounted for."},
			{ID: "F4", Text: "Local state that is older or damaged is dealt with, and nothing is lost."},
			{ID: "F5", Text: "A clean stop is a success, during a failing health check too; a hang-up keeps the listeners; a second agent on the same state is refused."},
			{ID: "F6", Text: "A machine that boots alone starts what it last knew; a reboot changes nothing elsewhere."},
		}},
		{"G. Partition and membership", []row{
			{ID: "G1", Text: "A node that is cut off keeps its daemons."},
			{ID: "G2", Text: "Two nodes of one name are noticed and told of."},
			{ID: "G3", Text: "The ring heals after any partition, however long."},
			{ID: "G4", Text: "Gossip refutes, survives replays and key changes, refuses wrong keys and what is too large."},
			{ID: "G5", Text: "Members are remembered; a node that left can join again; an address can get another name."},
		}},
		{"H. Status", []row{
			{ID: "H1", Text: "Counts are right and say of which revision they are."},
			{ID: "H2", Text: "Lists are ordered, and stay so."},
			{ID: "H3", Text: "A node that is dead is never shown as ready."},
		}},
		{"U. What users ask for", []row{
			{ID: "U1", Text: "A dead node does not block a rollout, and does not hide a revision that kills nodes.", Later: rollouts},
			{ID: "U2", Text: "Status says why: selector, pause, pull error, disk, its turn, a veto."},
			{ID: "U3", Text: "A daemon that is wanted is never given up because its attempts ran out."},
			{ID: "U4", Text: "A machine that boots offline starts its daemons; where that is asked for, they stop after a long isolation."},
			{ID: "U5", Text: "Daemons before workloads at boot, after them at shutdown.", Later: "it comes with the packages' unit"},
			{ID: "U6", Text: "No storm of pulls, and nothing is stopped before its new image is here."},
			{ID: "U7", Text: "Values and overrides for single nodes."},
			{ID: "U8", Text: "What would change, in the whole ring, without changing it."},
			{ID: "U9", Text: "Logs do not fill the disk, unless told to."},
			{ID: "U10", Text: "Nodes that are gone are forgotten."},
		}},
	}
}
