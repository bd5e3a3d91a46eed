// Package e2e holds the tests that look at agentd from outside: whole agents
// with real containerds on a small network (see lab), and the rules that the
// code's own shape has to keep. It exports nothing.
package e2e
