package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownCA is an operator's PKI: an issuer, or one that another issued.
type ownCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCA(t testing.TB, name string, parent *ownCA) *ownCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(sha256.Sum256([]byte(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca := &ownCA{cert: template, key: key}
	if parent == nil {
		parent = ca
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue writes cert.pem, key.pem and ca.pem into dir. change may alter what is issued.
func (ca *ownCA) issue(t testing.TB, dir, name string, root *ownCA, change func(*x509.Certificate)) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(sha256.Sum256([]byte(name))), Subject: pkix.Name{CommonName: name + ".example.com"},
		DNSNames:  []string{name, name + ".example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certs := pemOf("CERTIFICATE", der)
	if ca != root {
		certs = append(certs, pemOf("CERTIFICATE", ca.cert.Raw)...)
	}
	for file, b := range map[string][]byte{
		"cert.pem": certs, "key.pem": pemOf("PRIVATE KEY", keyDER), "ca.pem": pemOf("CERTIFICATE", root.cert.Raw),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func loadPKI(t testing.TB, dir string) *Authority {
	t.Helper()
	a, err := LoadAuthority(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOwnPKI(t *testing.T) {
	noLeaks(t)
	root := newCA(t, "root", nil)
	middle := newCA(t, "middle", root)
	dirA, dirB := t.TempDir(), t.TempDir()
	root.issue(t, dirA, "a", root, nil)
	middle.issue(t, dirB, "b", root, nil) // through an intermediate
	a := startNode(t, nodeConfig{name: "a", auth: loadPKI(t, dirA)})
	b := startNode(t, nodeConfig{name: "b", auth: loadPKI(t, dirB)})
	got, err := b.client.Hello(testContext(t), a.addr())
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "id", got.ID, a.id.ID)
	if id, _ := a.bindings.Lookup("b"); id != b.id.ID {
		t.Error("the id is not made of the node key")
	}
	if err := b.client.Push(testContext(t), a.member(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	// A node that still has a certificate of the ring key's.
	c := start(t, "c")
	_, err = c.client.Hello(testContext(t), a.addr())
	wantError(t, err, ErrRingKey)
	_, err = a.client.Hello(testContext(t), c.addr())
	wantError(t, err, ErrRingKey)
}

func TestOwnPKIRefuses(t *testing.T) {
	root := newCA(t, "root", nil)
	dir := t.TempDir()
	root.issue(t, dir, "a", root, nil)
	a := startNode(t, nodeConfig{name: "a", auth: loadPKI(t, dir)})
	cases := map[string]struct {
		issuer *ownCA
		change func(*x509.Certificate)
		want   error
		log    string
	}{
		"foreign issuer": {newCA(t, "foreign", nil), nil, ErrRingKey, "another ring"},
		"expired":        {root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, ErrCertificate, "expired"},
		"not yet valid":  {root, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, ErrCertificate, "not yet valid"},
		"for mail only":  {root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }, ErrCertificate, "usage"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			clear(a.server.listener.quiet.last)
			dir := t.TempDir()
			c.issuer.issue(t, dir, "b", root, c.change)
			b := startNode(t, nodeConfig{name: "b", auth: loadPKI(t, dir)})
			_, err := b.client.Hello(testContext(t), a.addr())
			wantError(t, err, ErrRingKey, a.addr(), "refuses this node's certificate")
			eventually(t, "a's log says "+c.log, func() bool { return strings.Contains(a.log.String(), c.log) })
			_, err = a.client.Hello(testContext(t), b.addr())
			wantError(t, err, c.want, b.addr(), c.log)
		})
	}
}

// Under an own PKI nobody can call itself what its certificate does not say.
func TestOwnPKIBindsNames(t *testing.T) {
	root := newCA(t, "root", nil)
	dir := t.TempDir()
	root.issue(t, dir, "a", root, nil)
	_, err := tryNode(t, nodeConfig{name: "b", auth: loadPKI(t, dir)})
	if err == nil || !strings.Contains(err.Error(), `was issued for a.example.com, a, a.example.com, not for node "b"`) {
		t.Errorf("certificate for another name: %v", err)
	}

	// A member that forgoes that check on its own machine is found out.
	a := startNode(t, nodeConfig{name: "a", auth: loadPKI(t, dir)})
	dirM := t.TempDir()
	root.issue(t, dirM, "m", root, nil)
	m := loadPKI(t, dirM)
	honest, err := m.impl.certificate(identity(t, "m"))
	if err != nil {
		t.Fatal(err)
	}
	voucher, err := vouch(identity(t, "b"), honest.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string][][]byte{
		"another name":        {honest.Certificate[0], voucher},
		"no voucher":          {honest.Certificate[0]},
		"another's voucher":   {honest.Certificate[0], mustVouch(t, a)},
		"a voucher, damaged":  {honest.Certificate[0], flip(honest.Certificate[1], len(honest.Certificate[1])-1)},
		"only a voucher":      {honest.Certificate[1]},
		"voucher comes first": {honest.Certificate[1], honest.Certificate[0]},
	}
	for name, chain := range shown {
		certs := make([]*x509.Certificate, len(chain))
		for i, der := range chain {
			if certs[i], err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := a.auth.impl.verify(certs); err == nil {
			t.Errorf("%s: taken for %s", name, p.Name)
		}
	}
	conn, err := tls.Dial("tcp", a.addr(), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{alpn},
		Certificates: []tls.Certificate{{Certificate: shown["another name"], PrivateKey: honest.PrivateKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || !isCertAlert(err) {
		t.Errorf("a certificate that names m got b in: %v", err)
	}
	if _, ok := a.bindings.Lookup("b"); ok {
		t.Error("b was bound")
	}
}

func mustVouch(t *testing.T, n *node) []byte {
	t.Helper()
	cert, err := n.auth.impl.certificate(n.id)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Certificate[len(cert.Certificate)-1]
}

func flip(b []byte, i int) []byte {
	b = append([]byte(nil), b...)
	b[i] ^= 1
	return b
}

// Files are replaced while agentd runs; half replaced ones change nothing.
func TestOwnPKIFilesChange(t *testing.T) {
	first, second := newCA(t, "first", nil), newCA(t, "second", nil)
	dirA, dirB := t.TempDir(), t.TempDir()
	first.issue(t, dirA, "a", first, nil)
	second.issue(t, dirB, "b", second, nil)
	a := startNode(t, nodeConfig{name: "a", auth: loadPKI(t, dirA)})
	b := startNode(t, nodeConfig{name: "b", auth: loadPKI(t, dirB)})
	hello := func() error {
		_, err := b.client.Hello(testContext(t), a.addr())
		return err
	}
	wantError(t, hello(), ErrRingKey)
	if err := a.auth.Problem(); err != nil {
		t.Errorf("problem before anything changed: %v", err)
	}

	key, err := os.ReadFile(filepath.Join(dirA, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	second.issue(t, dirA, "a", second, nil)
	newKey, err := os.ReadFile(filepath.Join(dirA, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirA, "key.pem"), key, 0o600); err != nil { // not yet replaced
		t.Fatal(err)
	}
	wantError(t, hello(), ErrRingKey)
	if err := a.auth.Problem(); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("problem while files don't match: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dirA, "key.pem"), newKey, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := hello(); err != nil {
		t.Errorf("after all files were replaced: %v", err)
	}
	// A certificate for another node would change who this node is.
	second.issue(t, dirA, "z", second, nil)
	if err := hello(); err != nil {
		t.Errorf("with a certificate for another node in the files: %v", err)
	}
	if err := a.auth.Problem(); err == nil || !strings.Contains(err.Error(), `not for node "a"`) {
		t.Errorf("problem with a certificate for another node: %v", err)
	}
	// Gone files change nothing either.
	os.Remove(filepath.Join(dirA, "cert.pem"))
	if err := hello(); err != nil {
		t.Errorf("with no certificate file: %v", err)
	}
	if a.auth.Problem() == nil {
		t.Error("no problem told of a missing file")
	}
}

func TestLoadAuthorityErrors(t *testing.T) {
	root := newCA(t, "root", nil)
	cases := map[string]struct {
		change func(dir string) error
		words  []string
	}{
		"no certificate": {func(d string) error { return os.Remove(d + "/cert.pem") }, []string{"cert.pem", "no such file"}},
		"no key":         {func(d string) error { return os.Remove(d + "/key.pem") }, []string{"key.pem", "no such file"}},
		"no issuers":     {func(d string) error { return os.Remove(d + "/ca.pem") }, []string{"ca.pem", "no such file"}},
		"key for all":    {func(d string) error { return os.Chmod(d+"/key.pem", 0o644) }, []string{"mode 0644", "chmod 640 " /* a group may read */}},
		"no PEM":         {func(d string) error { return os.WriteFile(d+"/ca.pem", []byte("x"), 0o600) }, []string{"ca.pem", "PEM"}},
		"key as cert":    {func(d string) error { return os.Rename(d+"/key.pem", d+"/cert.pem") }, []string{"key.pem"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root.issue(t, dir, "a", root, nil)
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			_, err := LoadAuthority(dir+"/cert.pem", dir+"/key.pem", dir+"/ca.pem")
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}
