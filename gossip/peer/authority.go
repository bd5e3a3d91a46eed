package peer

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Authority says whose certificates count in this ring and gives this node its
// own: derived from the ring key, or a PKI of the operator's.
type Authority struct {
	impl authority
}

type authority interface {
	// certificate returns what id shows to others now.
	certificate(id *Identity) (*tls.Certificate, error)
	// verify returns who showed certs, leaf first. Errors are ErrRingKey for an
	// issuer that does not count here and ErrCertificate for anything else.
	// That the peer holds the leaf's key was proved by the handshake.
	verify(certs []*x509.Certificate) (Peer, error)
	// problem says why what is in use is not what it should be.
	problem() error
	// refused is what it means that a peer rejects our certificate.
	refused() error
}

// Problem returns why the files of an own PKI could not be read again after
// they changed, for the status; nil when all is well.
func (a *Authority) Problem() error { return a.impl.problem() }

// caInfo separates this use of the ring key from every other one.
const caInfo = "agentd node-to-node certificate authority, version 1"

// Ring-derived certificates are valid for all time that X.509 can name
// (RFC 5280, 4.1.2.5): a machine may boot in 1970, and who may be in the ring
// is a matter of the ring key, not of the clock.
var (
	firstDate = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDate  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	someDate  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// DeriveAuthority makes the ring's certificate authority out of the ring key
// and the ring's id. The first key issues this node's certificate; those issued
// under any of the keys count, so that a key can be replaced node by node.
func DeriveAuthority(ringKeys [][]byte, ringID string) (*Authority, error) {
	if len(ringKeys) == 0 {
		return nil, errors.New("derive certificate authority: no ring key")
	}
	if ringID == "" {
		return nil, errors.New("derive certificate authority: no ring id")
	}
	d := &derived{roots: x509.NewCertPool()}
	for i, ringKey := range ringKeys {
		if len(ringKey) < 16 { // what memberlist takes as a key, too
			return nil, fmt.Errorf("derive certificate authority: ring key %d has %d bytes, want at least 16", i+1, len(ringKey))
		}
		ca, key, err := deriveCA(ringKey, ringID)
		if err != nil {
			return nil, fmt.Errorf("derive certificate authority: %w", err)
		}
		if i == 0 {
			d.ca, d.caKey = ca, key
		}
		d.roots.AddCert(ca)
	}
	return &Authority{impl: d}, nil
}

// deriveCA is deterministic: every node of the ring makes the same certificate.
func deriveCA(ringKey []byte, ringID string) (*x509.Certificate, ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, ringKey, []byte(ringID), caInfo, ed25519.SeedSize)
	if err != nil {
		return nil, nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	keyID := sha256.Sum256(key.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber:          serial(keyID),
		Subject:               pkix.Name{CommonName: "agentd ring " + ringID},
		NotBefore:             firstDate,
		NotAfter:              lastDate,
		SubjectKeyId:          keyID[:20],
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it issues nodes, nothing in between
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return ca, key, err
}

// serial makes a positive number of 16 bytes that differs per key.
func serial(sum [sha256.Size]byte) *big.Int {
	sum[0] &= 0x7f
	sum[0] |= 0x40
	return new(big.Int).SetBytes(sum[:16])
}

// derived is the authority made of the ring key. Immutable.
type derived struct {
	roots *x509.CertPool // one CA per ring key
	ca    *x509.Certificate
	caKey ed25519.PrivateKey
}

func (d *derived) certificate(id *Identity) (*tls.Certificate, error) {
	pub := id.Key.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber:          serial(sha256.Sum256(pub)),
		Subject:               pkix.Name{CommonName: id.Name},
		NotBefore:             firstDate,
		NotAfter:              lastDate,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, d.ca, pub, d.caKey)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for node %q: %w", id.Name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.Key}, nil
}

// verify takes the leaf's name and key for the node's own: only holders of the
// ring key can have issued it. Which key goes with which name is for Bindings.
func (d *derived) verify(certs []*x509.Certificate) (Peer, error) {
	leaf := certs[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:       d.roots,
		CurrentTime: someDate,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return Peer{}, ErrRingKey // no node of this ring makes one that fails for anything else
	}
	if leaf.IsCA {
		return Peer{}, fmt.Errorf("%w: it is an issuer's own", ErrCertificate)
	}
	return nodeOf(leaf)
}

func (d *derived) problem() error { return nil }
func (d *derived) refused() error { return ErrRingKey }
