package peer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/agentd/agentd/gossip"
)

// What may go wrong between two nodes. Messages are made to follow an address:
// "10.0.0.11:7947 is an agentd of another ring or with another ring key".
var (
	// ErrUnreachable: nothing answers there.
	ErrUnreachable = errors.New("cannot be reached")
	// ErrNotAgentd: something answers, but not an agentd's peer port.
	ErrNotAgentd = errors.New("is not the [peer] port of an agentd")
	// ErrRingKey: one of the two does not trust the other's certificate issuer.
	ErrRingKey = errors.New("is an agentd of another ring or with another ring key")
	// ErrCertificate: the right issuer, but a certificate that is not valid.
	ErrCertificate = errors.New("has a certificate that is not valid")
	// ErrWrongPeer: an agentd of this ring, but not the one that was meant.
	ErrWrongPeer = errors.New("is another node")
	// ErrBusy: the peer has too much to do; ask another.
	ErrBusy = errors.New("is busy")
	// ErrNotFound: the peer does not have it; it is gossip's word for that too.
	ErrNotFound error = notFound{}
	// ErrRefused: the peer verified what it was given and does not take it.
	ErrRefused = errors.New("refused it")
	// ErrProtocol: the peer's answer, or our request in its eyes, makes no sense.
	ErrProtocol = errors.New("sent what makes no sense")
)

type notFound struct{}

func (notFound) Error() string        { return "does not have it" }
func (notFound) Is(target error) bool { return target == gossip.ErrNotHere }

// NameConflict says that two keys claim one node name.
type NameConflict struct {
	Name  string
	Bound gossip.NodeID // the id that the name belongs to
	Seen  gossip.NodeID // the id that claimed it too
	Addr  string        // where Seen was met; "" when it was only told of
	By    string        // the peer that refuses this node; "" when this node is the one that refuses
}

func (e *NameConflict) Error() string {
	var b strings.Builder
	if e.By != "" {
		fmt.Fprintf(&b, "%s refuses this node: ", e.By)
	}
	fmt.Fprintf(&b, "node name %q belongs to the node with id %s; another with id %s", e.Name, e.Bound, e.Seen)
	if e.Addr != "" {
		fmt.Fprintf(&b, " at %s", e.Addr)
	}
	fmt.Fprintf(&b, " claims it too; two machines need two names ([node] name), and if %s was installed anew, run: agentctl forget %s", e.Name, e.Name)
	return b.String()
}

// problem codes on the wire.
const (
	codeBusy      = "busy"
	codeConflict  = "conflict"
	codeNotFound  = "not-found"
	codeRefused   = "refused"
	codeMalformed = "malformed"
	codeTooLarge  = "too-large"
)

// problem is the JSON body of every answer but 200.
type problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	Name   string `json:"name,omitempty"`
	Bound  string `json:"bound,omitempty"`
	Seen   string `json:"seen,omitempty"`
}

// errTooLarge makes a client ask for less at a time.
var errTooLarge = fmt.Errorf("%w: too much at once", ErrProtocol)

// err turns what a peer answered into a typed error; by names the peer.
func (p problem) err(by string) error {
	var base error
	switch p.Code {
	case codeBusy:
		base = ErrBusy
	case codeConflict:
		bound, err1 := parseNodeID(p.Bound)
		seen, err2 := parseNodeID(p.Seen)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("%s %w: name conflict without ids", by, ErrProtocol)
		}
		return &NameConflict{Name: clean(p.Name, maxName), Bound: bound, Seen: seen, By: by}
	case codeNotFound:
		base = ErrNotFound
	case codeRefused:
		base = ErrRefused
	case codeTooLarge:
		base = errTooLarge
	default:
		base = ErrProtocol
	}
	if detail := clean(p.Detail, 512); detail != "" {
		return fmt.Errorf("%s %w: %s", by, base, detail)
	}
	return fmt.Errorf("%s %w", by, base)
}

// clean makes a peer's words fit for a log line or a terminal.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
