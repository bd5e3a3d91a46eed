// Package lab builds small worlds out of real parts for tests, the demo and
// the bench: a private containerd, a network namespace per node, images made
// on the spot, and agentd processes on top.
//
// It promises that everything it starts or makes carries the lab's id in its
// name or its path, that nothing outside of that is ever touched, and that
// Close (or Stop) removes all of it: processes, shims, mounts, network
// namespaces, cgroups, sockets and files. Truth is read from containerd's own
// client (ctr) and from /proc, never from agentd.
//
// A value of this package is used by one goroutine at a time unless its
// comment says otherwise. Only require.go knows about testing.
package lab
