package agent

import (
	"encoding/hex"
	"maps"

	"github.com/agentd/agentd/agent/rollout"
	"github.com/agentd/agentd/spec/record"
)

// steering is what operators signed about rollouts under way.
type steering struct {
	pauses    map[string]pauseWord  // by daemon
	skips     map[string][]skipWord // by daemon
	forgotten map[rollout.NodeID]uint64
}

type pauseWord struct {
	record.Pause
	by     string
	forked bool // several operators wrote at the same moment, and one of them pauses
}

type skipWord struct {
	record.Skip
	word uint64 // grows with each new word about the same node
	by   string
}

// steer reads the control records. What can't be read is a newer agentd's, and
// for others to follow.
func steer(entries []record.Entry) steering {
	s := steering{pauses: map[string]pauseWord{}, skips: map[string][]skipWord{}, forgotten: map[rollout.NodeID]uint64{}}
	for _, e := range entries {
		r := e.Winner()
		if r.Delete || r.Schema > record.Schema {
			continue
		}
		if p, err := record.DecodePause(r.Body); err == nil && record.PauseKey(p.Daemon) == r.Key {
			w := pauseWord{Pause: p, by: r.Author}
			for _, rival := range e.Records[1:] {
				if other, err := record.DecodePause(rival.Body); err == nil && other.Paused && !p.Paused {
					w.Paused, w.by, w.forked = true, rival.Author, true
				}
			}
			s.pauses[p.Daemon] = w
		} else if sk, err := record.DecodeSkip(r.Body); err == nil && record.SkipKey(sk.Daemon, sk.ID) == r.Key {
			s.skips[sk.Daemon] = append(s.skips[sk.Daemon], skipWord{sk, r.Generation, r.Author})
		} else if f, err := record.DecodeForget(r.Body); err == nil && record.ForgetKey(f.Node) == r.Key {
			var id rollout.NodeID
			if raw, err := hex.DecodeString(f.ID); err == nil && len(raw) == len(id) {
				s.forgotten[rollout.NodeID(raw)] = r.Generation
			}
		}
	}
	return s
}

// words are the signed words that nodes are down, as far as they concern that
// record of a daemon: skips of it or of a later one, nodes that were forgotten
// and are not here under the same id again, and nodes that left.
func (s steering) words(daemon string, v record.Version, p peers) map[rollout.NodeID]uint64 {
	words := maps.Clone(p.left)
	if words == nil {
		words = map[rollout.NodeID]uint64{}
	}
	for id, n := range s.forgotten {
		if !p.alive[id] {
			words[id] = more(words[id], n)
		}
	}
	for _, sk := range s.skips[daemon] {
		if sk.Version.Generation >= v.Generation {
			words[sk.ID] = more(words[sk.ID], sk.word)
		}
	}
	return words
}

// more counts one word more about a node: each new word makes the sum greater,
// whichever kind it is of.
func more(words, n uint64) uint64 {
	if words == rollout.LeftWord {
		return words
	}
	return words + n
}

// paused says why nobody begins with anything of the daemon, "" when nobody
// asked for it.
func (s steering) paused(daemon string) string {
	p := s.pauses[daemon]
	if !p.Paused {
		return ""
	}
	why := "paused by " + orSomebody(p.by)
	if p.forked {
		why += ", while somebody else resumed it"
	}
	return why + "; agentctl rollout resume " + daemon + " goes on"
}

// forgiven are the failures of that record that an operator's resume forgave.
func (s steering) forgiven(daemon string, v record.Version) map[rollout.NodeID]bool {
	p := s.pauses[daemon]
	if p.Version != v || len(p.Forgiven) == 0 {
		return nil
	}
	out := make(map[rollout.NodeID]bool, len(p.Forgiven))
	for _, n := range p.Forgiven {
		out[n] = true
	}
	return out
}

func orSomebody(author string) string {
	if author == "" {
		return "an operator"
	}
	return author
}
