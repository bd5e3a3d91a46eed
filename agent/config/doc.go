// Package config reads what a node's own files say: agentd.toml with its
// drop-ins, the ring key, the operators' public keys, the floor that a join
// left, and the token that one node hands to the next.
//
// Promises: nothing is accepted that is not understood, every problem of a
// configuration is told at once, with file, line and what to do; files that
// somebody else could have written are refused; and no error ever repeats a
// secret. The package reads the files that it is asked for and the host name,
// and touches nothing else. It keeps no state; every function may be called
// from any goroutine.
package config
