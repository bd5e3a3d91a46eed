// Package chaos proves "exactly one": it lets a small agent (agent/, the real
// supervisor on a real containerd) look after several daemons, injures
// everything it depends on at random, and looks on from outside.
//
// It promises:
//   - The schedule of faults is a function of a seed, which is printed; the same
//     seed replays the same schedule. What the faults hit depends on timing and
//     is not promised.
//   - Nothing is taken on the agent's word. Copies are counted out of /proc, by
//     a mark in their environment, all the time and from before the first fault
//     until after the last; besides, each program takes a lock that the kernel
//     gives to one only, so that not even a copy that lives between two looks
//     is missed. What is left behind is counted by containerd's own client, in
//     /proc and in the cgroup file systems.
//   - It touches only what carries its own namespace: shims and programs of
//     others, and the foreign containers that it makes in its own namespace to
//     see that they are left alone, are never a fault's target.
//
// Where to look: schedule.go decides what happens when, strike.go does it,
// proxy.go cuts calls, watch.go looks on, census.go counts, world.go is the
// machine, run.go puts them together.
package chaos
