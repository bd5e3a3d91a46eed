package gossip_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

// A knock is a connection that names the ring and says nothing else.
func TestKnock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 64)
		n, _ := conn.Read(b)
		heard <- string(b[:n])
	}()
	const label = "00112233445566778899aabbccddeeff"
	if err := gossip.Knock(t.Context(), l.Addr().String(), label, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "\xf4 "+label { // memberlist's label header: 244, the length
		t.Errorf("heard %q", got)
	}
	l.Close()
	if err := gossip.Knock(t.Context(), l.Addr().String(), label, 5*time.Second); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", err)
	}
}
