// Package machines boots Debian machines with systemd-nspawn for the tests of
// the installed package: agentd.service under a real systemd, beside the
// system's containerd, over reboots and power cuts.
//
// It promises that everything it makes is below one folder per run or carries
// the run's name, and that all of it is gone when the run has ended, however
// that came: a child of its own sweeps when the test's process is no more. Only
// the base tree and built packages stay, in a cache that `rm -r` may empty at
// any time. Truth is read from the machines' containerd, from /proc and by
// HTTP, never only from agentd.
//
// The tests run only when AGENTD_TEST_REQUIRE names nspawn: `make e2e` sets it.
package machines
