package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/agentd/agentd/gossip"
)

// Seat is one node's place on the network: the socket for its gossip.Ring, and
// its requests to others, who answer from what they sat down with. A Node has
// one; whoever makes a gossip.Ring of its own takes one with Sit.
type Seat struct {
	n      *Net
	h      *host
	source gossip.Source
	book   *gossip.Book
}

var _ gossip.Exchanger = (*Seat)(nil)

// Sit takes the place of that name. From now on others' requests are answered
// from source and book, until Close.
func (n *Net) Sit(name string, source gossip.Source, book *gossip.Book) *Seat {
	s := &Seat{n: n, h: n.host(name), source: source, book: book}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.h.seat = s
	return s
}

// Addr is the seat's gossip address.
func (s *Seat) Addr() string { return s.h.addr.String() }

// Tuning makes a ring use the network, with choices that follow from its seed.
func (s *Seat) Tuning() gossip.Tuning {
	return gossip.Tuning{
		Transport: func() (memberlist.Transport, error) { return s.n.listen(s.h) },
		Seed:      s.n.draw(),
	}
}

// Close ends the answering. Somebody else may have sat down meanwhile.
func (s *Seat) Close() {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.h.seat == s {
		s.h.seat = nil
	}
}

// call waits for the network and returns the seat that answers.
func (s *Seat) call(ctx context.Context, m gossip.Member, op string) (*Seat, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, from := s.n, s.h.name
	n.mu.Lock()
	n.calls[Call{from, m.Name, op}]++
	n.mu.Unlock()
	d, ok := n.roundTrip(from, m.Name)
	if !ok {
		<-ctx.Done()
		return nil, fmt.Errorf("ask %s for %s: %w", m.Name, op, ctx.Err())
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s for %s: %w", m.Name, op, ctx.Err())
	case <-t.C:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.names[m.Name]
	if h == nil || h.seat == nil {
		return nil, fmt.Errorf("ask %s for %s: connection refused", m.Name, op)
	}
	if h.seat.book.ID() != m.ID {
		return nil, fmt.Errorf("ask %s for %s: it is another node", m.Name, op)
	}
	return h.seat, nil
}

// BucketHashes implements gossip.Exchanger.
func (s *Seat) BucketHashes(ctx context.Context, m gossip.Member) ([gossip.Buckets]gossip.Hash, error) {
	d, err := s.call(ctx, m, "buckets")
	if err != nil {
		return [gossip.Buckets]gossip.Hash{}, err
	}
	return d.source.BucketHashes(), nil
}

// Items implements gossip.Exchanger.
func (s *Seat) Items(ctx context.Context, m gossip.Member, buckets []uint8) ([]gossip.Item, error) {
	d, err := s.call(ctx, m, "items")
	if err != nil {
		return nil, err
	}
	return d.source.Items(buckets), nil
}

// Body implements gossip.Exchanger.
func (s *Seat) Body(ctx context.Context, m gossip.Member, key string, digest gossip.Hash) ([]byte, error) {
	d, err := s.call(ctx, m, "body")
	if err != nil {
		return nil, err
	}
	b, ok := d.source.Body(key, digest)
	if !ok {
		return nil, fmt.Errorf("body of %s: %w", key, gossip.ErrNotHere)
	}
	return b, nil
}

// Push asks m to store a record, as an apply does.
func (s *Seat) Push(ctx context.Context, m gossip.Member, envelope []byte) error {
	d, err := s.call(ctx, m, "push")
	if err != nil {
		return err
	}
	_, err = d.source.Offer(ctx, envelope)
	return err
}

// Statements implements gossip.Exchanger.
func (s *Seat) Statements(ctx context.Context, m gossip.Member, instance string, cursor uint64, push []gossip.Statement) (gossip.Page, error) {
	op := "statements"
	if instance == gossip.NoPull && len(push) == 1 && push[0].ID() == s.book.ID() {
		op = "inform" // evidence, not the ordinary exchange
	}
	d, err := s.call(ctx, m, op)
	if err != nil {
		return gossip.Page{}, err
	}
	d.book.Accept(push)
	return d.book.Page(instance, cursor, 0), nil
}
