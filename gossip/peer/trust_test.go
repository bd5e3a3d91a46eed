package peer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentd/agentd/gossip"
)

// Both machines tell of a wrong ring key: the one that asks gets an error, the
// one that is asked logs it.
func TestAnotherRing(t *testing.T) {
	noLeaks(t)
	a := start(t, "a")
	strangers := map[string]*Authority{
		"other key":                  derivedAuthority(t, testRing, ringKey("other")),
		"other ring of the same key": derivedAuthority(t, strings.Repeat("f", 32), ringKey("test")),
	}
	for name, auth := range strangers {
		t.Run(name, func(t *testing.T) {
			b := startNode(t, nodeConfig{name: "b", auth: auth})
			_, err := b.client.Hello(testContext(t), a.addr())
			wantError(t, err, ErrRingKey, a.addr()+" is an agentd of another ring or with another ring key")
			eventually(t, "a's log tells of it", func() bool { return strings.Contains(a.log.String(), "caller turned away") })
			if _, ok := a.bindings.Lookup("b"); ok {
				t.Error("a stranger's name was bound")
			}
			if _, err := a.client.Hello(testContext(t), b.addr()); !errors.Is(err, ErrRingKey) {
				t.Errorf("asked the other way around: %v", err)
			}
		})
	}
}

// The new key is added on every node, then made the first, then the old one
// goes: at no step do two nodes lose sight of each other.
func TestKeyRotation(t *testing.T) {
	old, young := ringKey("old"), ringKey("young")
	steps := [][][]byte{{old}, {old, young}, {young, old}, {young}}
	for i := range steps[1:] {
		a := startNode(t, nodeConfig{name: "a", auth: derivedAuthority(t, testRing, steps[i]...)})
		b := startNode(t, nodeConfig{name: "b", auth: derivedAuthority(t, testRing, steps[i+1]...)})
		if _, err := a.client.Hello(testContext(t), b.addr()); err != nil {
			t.Errorf("step %d to %d: %v", i, i+1, err)
		}
		if _, err := b.client.Hello(testContext(t), a.addr()); err != nil {
			t.Errorf("step %d to %d: %v", i+1, i, err)
		}
	}
}

// A node that accepts us while we don't accept it, or the other way around, is
// one with another ring key all the same.
func TestRotationDoneInWrongOrder(t *testing.T) {
	old, young := ringKey("old"), ringKey("young")
	a := startNode(t, nodeConfig{name: "a", auth: derivedAuthority(t, testRing, old)})
	b := startNode(t, nodeConfig{name: "b", auth: derivedAuthority(t, testRing, young, old)})
	for range 20 { // the refusal comes after the handshake; it must never be lost
		_, err := b.client.Hello(testContext(t), a.addr())
		wantError(t, err, ErrRingKey, a.addr())
		b.client.Close()
	}
	for range 20 {
		wantError(t, b.client.Push(testContext(t), a.member(), make([]byte, MaxEnvelope)), ErrRingKey)
	}
	_, err := a.client.Hello(testContext(t), b.addr())
	wantError(t, err, ErrRingKey, b.addr())
}

func TestDeriveAuthorityRefusesNonsense(t *testing.T) {
	for name, f := range map[string]func() (*Authority, error){
		"no key":    func() (*Authority, error) { return DeriveAuthority(nil, testRing) },
		"short key": func() (*Authority, error) { return DeriveAuthority([][]byte{make([]byte, 15)}, testRing) },
		"no ring":   func() (*Authority, error) { return DeriveAuthority([][]byte{ringKey("x")}, "") },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Every node makes the very same certificate authority, for ever: nodes of
// different versions must meet.
func TestDerivedAuthorityIsStable(t *testing.T) {
	one, key, err := deriveCA(ringKey("test"), testRing)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := deriveCA(ringKey("test"), testRing)
	if err != nil || !bytes.Equal(one.Raw, two.Raw) {
		t.Fatalf("two derivations differ: %v", err)
	}
	const want = "6944f4ef414b080f22b2204b1aa674e6b920d8cc61c50f4539140d3458ce47b0"
	if got := hexKey(key.Public().(ed25519.PublicKey)); got != want {
		t.Errorf("public key is %s; want %s", got, want)
	}
}

// What a holder of the ring key may make up is refused unless it has the form
// of a node's certificate.
func TestForgedCertificates(t *testing.T) {
	a := start(t, "a")
	ca, caKey, err := deriveCA(ringKey("test"), testRing)
	if err != nil {
		t.Fatal(err)
	}
	_, nodeKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(name string, pub any, isCA bool) []byte {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: firstDate, NotAfter: lastDate, IsCA: isCA, BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, pub, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	cases := map[string]struct {
		cert tls.Certificate
		log  string
	}{
		"key of another kind": {tls.Certificate{Certificate: [][]byte{leaf("b", ecKey.Public(), false)}, PrivateKey: ecKey}, "no node key"},
		"name with a newline": {tls.Certificate{Certificate: [][]byte{leaf("b\nlevel=INFO", nodeKey.Public(), false)}, PrivateKey: nodeKey}, "is no node name"},
		"no name":             {tls.Certificate{Certificate: [][]byte{leaf("", nodeKey.Public(), false)}, PrivateKey: nodeKey}, "is no node name"},
		"the issuer itself":   {tls.Certificate{Certificate: [][]byte{ca.Raw}, PrivateKey: caKey}, "an issuer's own"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a.server.listener.quiet.mu.Lock()
			clear(a.server.listener.quiet.last)
			a.server.listener.quiet.mu.Unlock()
			conn, err := tls.Dial("tcp", a.addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}, Certificates: []tls.Certificate{c.cert}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("it was let in")
			}
			eventually(t, "the log says "+c.log, func() bool { return strings.Contains(a.log.String(), c.log) })
		})
	}
}

// Callers without a certificate, with TLS 1.2, or without any TLS get nothing.
func TestStrangersGetNothing(t *testing.T) {
	noLeaks(t)
	a := start(t, "a")
	for name, config := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{alpn}},
		"TLS 1.2":        {InsecureSkipVerify: true, NextProtos: []string{alpn}, MaxVersion: tls.VersionTLS12},
		"no ALPN":        {InsecureSkipVerify: true},
		"HTTP/2":         {InsecureSkipVerify: true, NextProtos: []string{"h2"}},
	} {
		c, err := tls.Dial("tcp", a.addr(), config)
		if err != nil {
			continue
		}
		c.Write([]byte("GET /v1/hello HTTP/1.1\r\nHost: a\r\n\r\n"))
		if b, err := io.ReadAll(c); err == nil || len(b) > 0 {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		c.Close()
	}
	c, err := net.Dial("tcp", a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("GET /v1/hello HTTP/1.1\r\nHost: a\r\n\r\n"))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, _ := io.ReadAll(c); bytes.Contains(b, []byte("version")) {
		t.Errorf("plain HTTP got %q", b)
	}
}

// A second machine of the same name is told so when it says hello, whichever
// of the nodes it asks.
func TestSecondNodeOfTheSameName(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	if _, err := b.client.Hello(ctx, a.addr()); err != nil {
		t.Fatal(err)
	}
	twin := start(t, "b")
	_, err := twin.client.Hello(ctx, a.addr())
	c := wantConflict(t, err)
	mustEqual(t, "name", c.Name, "b")
	mustEqual(t, "bound", c.Bound, b.id.ID)
	mustEqual(t, "seen", c.Seen, twin.id.ID)
	mustEqual(t, "by", c.By, a.addr())
	for _, word := range []string{a.addr() + " refuses this node", b.id.ID.String(), twin.id.ID.String(), "agentctl forget b"} {
		if !strings.Contains(c.Error(), word) {
			t.Errorf("%q does not say %q", c.Error(), word)
		}
	}
	if got := a.bindings.Conflicts(); len(got) != 1 || got[0].Seen != twin.id.ID || got[0].Addr == "" || got[0].By != "" {
		t.Errorf("a tells of %+v", got)
	}
	if got := twin.bindings.Conflicts(); len(got) != 1 || got[0].By != a.addr() {
		t.Errorf("the twin tells of %+v", got)
	}
	// Its own namesake finds it out, too.
	_, err = twin.client.Hello(ctx, b.addr())
	wantConflict(t, err)

	// Nothing else is answered either.
	_, err = twin.client.BucketHashes(ctx, a.member())
	wantConflict(t, err)

	// And nobody asks the twin for the original.
	m := twin.member()
	_, err = a.client.BucketHashes(ctx, m)
	if c := wantConflict(t, err); c.By != "" || c.Addr != twin.addr() {
		t.Errorf("conflict seen by a: %+v", c)
	}
}

// The way out of a conflict: the name is forgotten, the new key takes it, the
// old one is the stranger from then on, over its open connection, too.
func TestForgetLetsTheNewMachineIn(t *testing.T) {
	a, old := start(t, "a"), start(t, "b")
	ctx := testContext(t)
	if _, err := old.client.BucketHashes(ctx, a.member()); err != nil {
		t.Fatal(err)
	}
	young := start(t, "b")
	_, err := young.client.Hello(ctx, a.addr())
	wantConflict(t, err)

	if !a.bindings.Forget("b") {
		t.Fatal("nothing was forgotten")
	}
	if _, err := old.client.BucketHashes(ctx, a.member()); err != nil {
		t.Fatalf("the old key, before another claims the name: %v", err)
	}
	if _, err := young.client.Hello(ctx, a.addr()); err != nil {
		t.Fatalf("the new key: %v", err)
	}
	_, err = old.client.BucketHashes(ctx, a.member())
	wantConflict(t, err)
}

// A peer can't make a node believe that its own name is taken by answering
// with a conflict about another name.
func TestConflictAboutAnotherNameIsNonsense(t *testing.T) {
	a := start(t, "a")
	rogue := rogueServer(t, "r", func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, httpAnswer("409 Conflict", `{"code":"conflict","name":"z","bound":"`+strings.Repeat("0", 32)+`","seen":"`+strings.Repeat("1", 32)+`"}`))
	})
	_, err := a.client.Hello(testContext(t), rogue.PeerAddr)
	wantError(t, err, ErrProtocol)
	var conflict *NameConflict
	if errors.As(err, &conflict) || len(a.bindings.Conflicts()) > 0 {
		t.Error("it was believed")
	}
}

func identity(t testing.TB, name string) *Identity {
	t.Helper()
	id, err := LoadOrCreateIdentity(filepath.Join(t.TempDir(), "node.key"), name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func nodeID(i int) (id gossip.NodeID) {
	id[0], id[1] = byte(i>>8), byte(i)
	return id
}
