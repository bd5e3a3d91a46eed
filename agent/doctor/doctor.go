// Package doctor finds out what keeps agentd, or will keep it, from doing its
// work on this machine, and says how to mend it.
//
// Promises: it changes nothing, needs no running agentd, and every call out of
// the process has a deadline. What it finds is judged by pure functions of what
// was read; only Examine and what it calls looks at the machine, through Machine,
// which tests replace. Each finding is one sentence, and a remedy where one is
// known.
//
// It keeps no state; every function may be called from any goroutine.
package doctor

import (
	"cmp"
	"slices"
)

// Result is how grave a finding is.
type Result string

// The results, from well to grave.
const (
	OK   Result = "ok"
	Warn Result = "warn" // works, and will not for ever, or not as well as it could
	Fail Result = "fail" // does not work
)

// Names of checks, in the order in which they are told.
const (
	CheckConfig     = "configuration"
	CheckKeys       = "keys"
	CheckTrust      = "trust"
	CheckFiles      = "files"
	CheckContainerd = "containerd"
	CheckRunc       = "runc"
	CheckCgroups    = "cgroups"
	CheckDisk       = "disk"
	CheckClock      = "clock"
	CheckPorts      = "ports"
	CheckService    = "service"
	CheckAgent      = "agentd"
	CheckSocket     = "socket"
	CheckRing       = "ring"
	CheckReach      = "reachability"
	CheckVersions   = "versions"
)

// Finding is what one check found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Detail string `json:"detail"` // one sentence
	Fix    string `json:"fix"`    // what to do; "" when all is well, or nobody knows
}

func ok(check, detail string) Finding { return Finding{check, OK, detail, ""} }

func warn(check, detail, fix string) Finding { return Finding{check, Warn, detail, fix} }

func fail(check, detail, fix string) Finding { return Finding{check, Fail, detail, fix} }

// Worst is the gravest result; OK of none.
func Worst(list []Finding) Result {
	worst := OK
	for _, f := range list {
		if rank(f.Result) > rank(worst) {
			worst = f.Result
		}
	}
	return worst
}

func rank(r Result) int { return slices.Index([]Result{OK, Warn, Fail}, r) }

// Count counts the findings of a result.
func Count(list []Finding, r Result) int {
	n := 0
	for _, f := range list {
		if f.Result == r {
			n++
		}
	}
	return n
}

// Sort orders findings by their checks; within a check they keep their order.
func Sort(list []Finding) {
	order := []string{
		CheckConfig, CheckKeys, CheckTrust, CheckFiles, CheckContainerd, CheckRunc, CheckCgroups, CheckDisk, CheckClock,
		CheckPorts, CheckService, CheckAgent, CheckSocket, CheckRing, CheckReach, CheckVersions,
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Check), slices.Index(order, b.Check))
	})
}
