package doctor

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/api"
)

// Answers is what this node's agentd said.
type Answers struct {
	Info   api.Info
	Status api.Status
	Nodes  api.Nodes
	Reach  *api.Reach // nil: an older agentd
	Own    string     // version of the program that asked
}

// maxSkew is how far apart clocks may be without a word, in seconds: what the
// way takes is not in it.
const maxSkew = 2.0

// Ring judges what agentd said of itself and its ring. Pure.
func Ring(a Answers) []Finding {
	list := []Finding{ok(CheckAgent, fmt.Sprintf("%s runs as process %d, node %s of ring %s", a.Info.Version, a.Info.PID, a.Info.Node, a.Info.RingName))}
	if a.Info.Left {
		list = append(list, warn(CheckRing, "this node left its ring, and runs nothing", "sudo agentctl join takes it back"))
	}
	list = append(list, ringState(a.Status.Ring)...)
	list = append(list, ways(a.Reach)...)
	return append(list, versions(a)...)
}

func ringState(r api.RingStatus) []Finding {
	var list []Finding
	for _, note := range r.Notes {
		list = append(list, warn(CheckRing, flatText(note), ""))
	}
	if r.Nodes.Failed > 0 {
		list = append(list, warn(CheckRing, fmt.Sprintf("%d of %d nodes can't be reached", r.Nodes.Failed, r.Nodes.Alive+r.Nodes.Failed),
			"see: agentctl nodes; those that are gone for good: agentctl forget NODE"))
	}
	if !r.InSync {
		list = append(list, warn(CheckRing, fmt.Sprintf("%d of %d nodes hold the records that this one holds", r.Holding, r.Nodes.Alive), "give it some seconds; see: agentctl nodes"))
	}
	if len(list) == 0 {
		list = append(list, ok(CheckRing, fmt.Sprintf("%d alive, all hold the same records", r.Nodes.Alive)))
	}
	return list
}

// ways judges both directions between this node and others, and their clocks.
func ways(r *api.Reach) []Finding {
	if r == nil {
		return nil
	}
	const open = "open TCP and UDP of [ring] bind (7946) and TCP of [peer] bind (7947) "
	var list []Finding
	known, told := 0, 0
	for _, p := range r.Peers {
		switch {
		case p.Out != "" && p.State == "alive":
			list = append(list, fail(CheckReach, fmt.Sprintf("%s can't be reached from here: %s", p.Node, p.Out), open+"there, towards this machine"))
		case p.Out != "":
			list = append(list, warn(CheckReach, fmt.Sprintf("%s (%s) can't be reached from here: %s", p.Node, p.State, p.Out), ""))
		case !p.Known:
			known++
		default:
			known++
			told++
			list = append(list, wayBack(p, open)...)
		}
	}
	switch {
	case len(list) > 0:
	case len(r.Peers) == 0:
		list = append(list, ok(CheckReach, "there is no other node yet"))
	case told < known:
		list = append(list, ok(CheckReach, fmt.Sprintf("%s can be reached, and %d of them reach this one; the others are too old to tell", nodes(known), told)))
	default:
		list = append(list, ok(CheckReach, "both ways, to and from "+nodes(known)))
	}
	if r.Untried > 0 {
		list = append(list, ok(CheckReach, fmt.Sprintf("%s more were not tried", nodes(r.Untried))))
	}
	return append(list, clocks(r.Peers)...)
}

func wayBack(p api.ReachPeer, open string) []Finding {
	switch {
	case p.In != "":
		return []Finding{fail(CheckReach, fmt.Sprintf("%s can't reach this node: %s", p.Node, p.In), open+"on this machine, or tell others a better address with [ring] advertise")}
	case p.Sees != "alive" && p.Sees != "":
		return []Finding{warn(CheckReach, fmt.Sprintf("%s takes this node for %s, though it reaches it over TCP", p.Node, p.Sees), open+"on both machines: UDP may be dropped on the way")}
	}
	return nil
}

func clocks(peers []api.ReachPeer) []Finding {
	var far []string
	for _, p := range peers {
		if p.Known && (p.Skew > maxSkew || p.Skew < -maxSkew) {
			far = append(far, fmt.Sprintf("%s by %+.0f s", p.Node, p.Skew))
		}
	}
	if len(far) == 0 {
		return nil
	}
	return []Finding{warn(CheckClock, "other nodes' clocks differ from this one's: "+strings.Join(far, ", "), "keep all clocks right: sudo timedatectl set-ntp true")}
}

func versions(a Answers) []Finding {
	var list []Finding
	if skew := api.Skew(a.Nodes.Nodes); skew != "" {
		list = append(list, warn(CheckVersions, skew, ""))
	}
	if a.Own != "" && a.Own != a.Info.Version {
		list = append(list, warn(CheckVersions, fmt.Sprintf("agentctl is %s and agentd %s", a.Own, a.Info.Version), "after an upgrade: sudo systemctl restart agentd (containers run on)"))
	}
	if len(list) == 0 {
		list = append(list, ok(CheckVersions, "every node runs "+a.Info.Version))
	}
	return list
}

// Down judges an agentd that could not be asked.
func Down(err error, fix string) []Finding {
	return []Finding{fail(CheckAgent, flat(err), fix)}
}

// Socket judges the rights of agentd's socket.
func Socket(cfg config.API) []Finding {
	info, err := os.Lstat(cfg.Socket)
	if err != nil {
		return nil // Down tells
	}
	st, is := info.Sys().(*syscall.Stat_t)
	if !is {
		return nil
	}
	gid := -1
	if g, err := user.LookupGroup(cfg.Group); cfg.Group != "" && err == nil {
		if n, err := strconv.Atoi(g.Gid); err == nil {
			gid = n
		}
	}
	return judgeSocket(cfg, info.Mode().Perm(), int(st.Uid), int(st.Gid), gid)
}

// judgeSocket judges a socket's mode, owner and group; want is the group's id,
// -1 when there is no such group. Pure.
func judgeSocket(cfg config.API, mode os.FileMode, uid, gid, want int) []Finding {
	path, restart := cfg.Socket, "sudo systemctl restart agentd"
	switch {
	case mode&0o007 != 0:
		return []Finding{fail(CheckSocket, fmt.Sprintf("%s has mode %04o: everybody on this machine may read", path, mode), "chmod 660 "+path)}
	case uid != 0:
		return []Finding{warn(CheckSocket, fmt.Sprintf("%s is owned by user %d, not by root", path, uid), restart)}
	case cfg.Group == "":
		return []Finding{ok(CheckSocket, path+" is root's alone")}
	case want < 0:
		return []Finding{warn(CheckSocket, fmt.Sprintf("there is no group %s: only root may use agentctl", cfg.Group), "groupadd --system "+cfg.Group+"; "+restart)}
	case gid != want || mode&0o060 != 0o060:
		return []Finding{warn(CheckSocket, fmt.Sprintf("%s is not the group %s's (mode %04o, group %d)", path, cfg.Group, mode, gid), restart)}
	}
	return []Finding{ok(CheckSocket, fmt.Sprintf("%s: root and group %s", path, cfg.Group))}
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

func flatText(s string) string { return strings.Join(strings.Fields(s), " ") }
