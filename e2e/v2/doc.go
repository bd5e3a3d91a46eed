// Package v2 runs the installed package on a kernel of its own, in QEMU without
// hardware's help, where cgroup version 2 is the only one: the machines that
// most of the fleet will be, and that a machine with version 1 can't show.
//
// It takes minutes and runs only when AGENTD_TEST_REQUIRE names qemu:
// `make e2e-v2` sets it.
package v2
