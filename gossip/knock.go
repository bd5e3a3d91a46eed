package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// Knock finds out whether a member can be reached over TCP at addr, HOST:PORT:
// it makes a connection as one of the ring does, says nothing and ends it. (One
// that does not name the ring would be told of as another ring's.)
func Knock(ctx context.Context, addr, label string, within time.Duration) error {
	conn, err := (&net.Dialer{Timeout: within}).DialContext(ctx, "tcp", addr)
	var op *net.OpError
	switch {
	case err == nil:
	case errors.As(err, &op) && op.Timeout():
		return fmt.Errorf("%s does not answer", addr)
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", addr, op.Err)
	default:
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(within)) // only a closed one refuses
	if err := memberlist.AddLabelHeaderToStream(conn, label); err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	return nil
}
