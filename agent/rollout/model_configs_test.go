package rollout

// first is the daemon's first generation: digest a, k nodes down at most.
func first(k int) op { return op{on: -1, digest: 'a', k: k} }

// then is a change to digest by whoever sees operation on as the newest.
func then(on int, digest byte, k int, with ...func(*op)) op {
	o := op{on: on, digest: digest, k: k}
	for _, f := range with {
		f(&o)
	}
	return o
}

func unseen(machines ...int) func(*op)   { return func(o *op) { o.unseen = mask(machines) } }
func dropped(machines ...int) func(*op)  { return func(o *op) { o.drop = mask(machines) } }
func canary(machines ...int) func(*op)   { return func(o *op) { o.canaries = mask(machines) } }
func matching(machines ...int) func(*op) { return func(o *op) { o.match = mask(machines) } }
func loses(o *op)                        { o.low = true }
func rollsBack(o *op)                    { o.rollback = true }
func onDelete(o *op)                     { o.strategy = OnDelete }
func atOnce(o *op)                       { o.strategy = AllAtOnce }
func lanes(l ...[]int) func(*op)         { return func(o *op) { o.lanes = l } }
func failures(n int) func(*op)           { return func(o *op) { o.failures = n } }

func remove(on int) op        { return op{kind: opDelete, on: on} }
func pause(on int) op         { return op{kind: opPause, on: on} }
func resume(on, after int) op { return op{kind: opResume, on: on, after: 1 << after} }
func skip(on, node int) op    { return op{kind: opSkip, on: on, node: node} }

func mask(list []int) (m uint8) {
	for _, i := range list {
		m |= 1 << i
	}
	return m
}

func configs() []config {
	return []config{
		{name: "first", nodes: 2, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1}},
		{name: "one", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}},
		{name: "crash", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1, reboot: 1}},
		{name: "supersede", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "crash, supersede", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}, faults: budget{crash: 1}},
		{name: "bad then good", nodes: 3, settled: 1, bad: "b", ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "same digest", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'b', 1)}},
		{name: "back to a", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'a', 1)}},
		{name: "lanes merge", nodes: 3, settled: 1, ops: []op{first(2), then(0, 'b', 2), then(1, 'c', 1)}},
		{name: "newcomer", nodes: 3, settled: 1, ops: []op{{on: -1, digest: 'a', k: 2, match: 3}, then(0, 'b', 2, matching(0, 1)), then(1, 'c', 2)}},
		{name: "skip", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), skip(1, 0)}},
		{name: "skip and supersede", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), skip(1, 0), then(1, 'c', 1)}},
		{name: "drop", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1, dropped(0))}},
		{name: "late", nodes: 3, settled: 1, ops: []op{{on: -1, digest: 'a', k: 1, match: 3}, then(0, 'b', 1, unseen(2))}},
		{name: "late of old lane", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1, unseen(2), dropped(2))}},
		{name: "late and supersede", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1, dropped(2)), then(1, 'c', 1)}},
		{name: "late, supersede, back", nodes: 3, settled: 2, apart: 4, ops: []op{first(1), then(0, 'b', 1, dropped(2)), then(1, 'c', 1, unseen(2)), then(2, 'b', 1, unseen(2))}},
		{name: "late and crash", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1, dropped(2))}, faults: budget{crash: 1, reboot: 1}},
		{name: "two late", nodes: 4, settled: 1, ops: []op{first(1), then(0, 'b', 1, dropped(2, 3))}},
		{name: "late, unseen twice", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1, dropped(2)), then(1, 'c', 1, unseen(2))}},
		{name: "two lenders", nodes: 5, settled: 2, apart: 0x18, rejoin: true, bad: "b", badOn: 0x18, ops: []op{first(2), then(0, 'b', 2, dropped(3, 4)), then(1, 'c', 2, unseen(3, 4))}},
		{name: "lent and skipped", nodes: 3, settled: 2, apart: 4, ops: []op{first(1), then(0, 'b', 1, dropped(2)), skip(1, 2), then(1, 'c', 1)}},
		{name: "right words", nodes: 3, settled: 1, right: true, ops: []op{first(1), then(0, 'b', 1), skip(1, 0), then(1, 'c', 1)}, faults: budget{reboot: 1}},
		{name: "loss", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1, loss: 1}},
		{name: "fork", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(0, 'c', 1)}},
		{name: "fork settled", nodes: 2, settled: 1, settles: true, ops: []op{first(1), then(0, 'b', 1), then(0, 'c', 1), then(2, 'd', 1)}},
		{name: "canary", nodes: 3, settled: 1, ops: []op{first(2), then(0, 'b', 2, canary(2))}},
		{name: "pause", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), pause(1), resume(1, 2)}},
		{name: "fails", nodes: 3, settled: 1, bad: "b", deadline: true, ops: []op{first(2), then(0, 'b', 2), resume(1, 1)}},
		{name: "fails twice", nodes: 3, settled: 1, bad: "b", deadline: true, ops: []op{first(2), then(0, 'b', 2, failures(2), rollsBack)}},
		{name: "rolls back", nodes: 3, settled: 1, bad: "b", deadline: true, ops: []op{first(2), then(0, 'b', 2, rollsBack)}},
		{name: "slow rolls back", nodes: 3, settled: 1, slow: true, deadline: true, ops: []op{first(1), then(0, 'b', 1, rollsBack)}},
		{name: "rolls back, supersede", nodes: 3, settled: 1, slow: true, deadline: true, ops: []op{first(1), then(0, 'b', 1, rollsBack), then(1, 'c', 1, rollsBack)}},
		{name: "no image", nodes: 3, settled: 1, noImage: "b", deadline: true, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "on delete", nodes: 2, settled: 1, tell: true, ops: []op{first(1), then(0, 'b', 1, onDelete)}},
		{name: "at once", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 3, atOnce)}},
		{name: "delete", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1), remove(1), then(2, 'c', 1)}},
		{name: "relabel", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{relabel: 2}},
		{name: "relabel crash", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{relabel: 2, crash: 1}},
		{name: "cordon", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{cordon: 1, exit: 1}},
		{name: "exit", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{exit: 2}},
		{name: "full disk", nodes: 3, settled: 1, fullDisk: true, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1}},
		{name: "unknown", nodes: 3, settled: 1, unknown: true, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1}},
		{name: "slow, supersede", nodes: 2, settled: 1, slow: true, deadline: true, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "loss of two", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{crash: 1, loss: 1}},
		{name: "backwards", nodes: 2, settled: 1, older: true, backwards: true, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "any order, supersede", nodes: 2, settled: 1, older: true, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}},
		{name: "any order", nodes: 3, settled: 1, older: true, ops: []op{first(1), then(0, 'b', 1)}},
		{name: "four", nodes: 4, settled: 1, ops: []op{first(2), then(0, 'b', 2)}},
		{name: "rolled back elsewhere", nodes: 2, settled: 1, bad: "b", deadline: true, ops: []op{first(1), then(0, 'b', 1, rollsBack, matching(0))}},
		{name: "rolled back to fewer", nodes: 3, settled: 1, slow: true, deadline: true, ops: []op{{on: -1, digest: 'a', k: 1, match: 3}, then(0, 'b', 1, rollsBack, matching(1, 2))}, faults: budget{crash: 1}},
		{name: "leaves", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, faults: budget{leave: 1}},
		{name: "leaves, supersede", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1)}, faults: budget{leave: 1}},
		{name: "slow supervisor", nodes: 2, settled: 1, slowly: true, ops: []op{first(1), then(0, 'b', 1), then(1, 'a', 1)}, faults: budget{crash: 1}},
		{name: "slow supervisor and veto", nodes: 2, settled: 1, slowly: true, slow: true, deadline: true, ops: []op{first(2), then(0, 'b', 2, rollsBack)}},
		{name: "two bad ones", nodes: 3, settled: 1, bad: "b", badOn: 2, deadline: true, ops: []op{first(1), then(0, 'b', 1, rollsBack), then(1, 'c', 1, rollsBack)}},
		{name: "pause, supersede", nodes: 2, settled: 1, ops: []op{first(1), then(0, 'b', 1), pause(1), then(1, 'c', 1), resume(3, 2)}, faults: budget{crash: 1}},
		{name: "fork and veto", nodes: 2, settled: 1, slow: true, deadline: true, settles: true, ops: []op{first(1), then(0, 'b', 1, rollsBack), then(0, 'c', 1, rollsBack, loses), then(1, 'd', 1)}},
		{name: "fork of a crowd", nodes: 3, settled: 1, settles: true, ops: []op{first(1), then(0, 'b', 1), then(0, 'c', 1), then(2, 'd', 1)}},
		{name: "fork of lanes", nodes: 3, settled: 1, settles: true, ops: []op{first(2), then(0, 'b', 2), then(0, 'c', 1), then(2, 'd', 1)}},
		{name: "delete in the middle", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), remove(1), then(2, 'c', 1)}, faults: budget{crash: 1}},
		{name: "three in a row", nodes: 3, settled: 1, ops: []op{first(1), then(0, 'b', 1), then(1, 'c', 1), then(2, 'd', 1)}, deep: true},
		{name: "four, crash", nodes: 4, settled: 1, ops: []op{first(2), then(0, 'b', 2)}, faults: budget{crash: 1}, deep: true},
		{name: "four, supersede", nodes: 4, settled: 1, ops: []op{first(2), then(0, 'b', 2), then(1, 'c', 1)}, deep: true},
		{name: "four, vetoed", nodes: 4, settled: 1, slow: true, deadline: true, ops: []op{first(2), then(0, 'b', 2, rollsBack)}, deep: true},
		{name: "five", nodes: 5, settled: 1, ops: []op{first(2), then(0, 'b', 2)}, deep: true},
		{name: "five, one lane", nodes: 5, settled: 1, ops: []op{first(1), then(0, 'b', 1)}, deep: true},
		{name: "everything", nodes: 3, settled: 1, slow: true, deadline: true, unreachable: true, fullDisk: true, unknown: true, ops: []op{first(1), then(0, 'b', 1, rollsBack), skip(1, 0), then(1, 'c', 1)},
			faults: budget{crash: 1, reboot: 1, loss: 1, exit: 1, relabel: 1, cordon: 1}, deep: true},
		{name: "everything of two", nodes: 2, settled: 1, slow: true, deadline: true, unreachable: true, fullDisk: true, unknown: true, ops: []op{first(1), then(0, 'b', 1, rollsBack), skip(1, 0), then(1, 'c', 1)},
			faults: budget{crash: 1, reboot: 1, loss: 1, exit: 1, relabel: 1, cordon: 1}},
	}
}
