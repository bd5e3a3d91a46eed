package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

// serveRaw answers every connection with serve, then closes it.
func serveRaw(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, serve)
}

func serveOn(t testing.TB, l net.Listener, serve func(net.Conn)) string {
	t.Helper()
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(15 * time.Second))
				serve(c)
			})
		}
	})
	return l.Addr().String()
}

// reply waits for the caller to say something, and answers with text.
func reply(text string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 1)
		if _, err := c.Read(b); err == nil {
			c.Write([]byte(text))
		}
	}
}

// serveTLS is some TLS server of somebody else's.
func serveTLS(t testing.TB, protocols ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   protocols,
	})
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, func(c net.Conn) { c.Read(make([]byte, 1)) })
}

// rogueServer is a member of the ring that answers with whatever serve writes.
func rogueServer(t testing.TB, name string, serve func(net.Conn)) gossip.Member {
	t.Helper()
	id := identity(t, name)
	creds, err := newCredentials(derivedAuthority(t, testRing, ringKey("test")), id)
	if err != nil {
		t.Fatal(err)
	}
	config := creds.config(new(Peer))
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return creds.config(new(Peer)), nil }
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	addr := serveOn(t, l, serve)
	return gossip.Member{Name: name, ID: id.ID, PeerAddr: addr}
}

// rogueConn is a connection of n's that says whatever is written to it.
func rogueConn(t testing.TB, n *node, addr string) net.Conn {
	t.Helper()
	d, err := n.client.handshake(testContext(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// readRequest reads up to the end of the headers.
func readRequest(c net.Conn) {
	var last [4]byte
	b := make([]byte, 1)
	for string(last[:]) != "\r\n\r\n" {
		if _, err := c.Read(b); err != nil {
			return
		}
		copy(last[:], last[1:])
		last[3] = b[0]
	}
}

func httpAnswer(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

func hexKey(b []byte) string { return hex.EncodeToString(b) }
