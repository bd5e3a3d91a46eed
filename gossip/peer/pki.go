package peer

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// A certificate of the operator's own PKI carries a key of its own, so it says
// nothing of the node key. The node therefore sends a second certificate along,
// the voucher: self-signed with the node key, naming the node and the hash of
// the first one's public key. The handshake proves that the peer holds the
// first key, the voucher that the node key's owner acknowledges it as his.
const voucherScheme = "agentd-tls-key"

// LoadAuthority uses certificates of the operator's own PKI: this node's
// certificate (with intermediates) and key, and the issuers that count, all in
// PEM. The certificate must name the node, as its common name or as a DNS name,
// and so must every peer's: under an own PKI no member can pose as another.
// Files are read again when they change; if that fails, what was read last
// stays in use until they can be read.
func LoadAuthority(certFile, keyFile, caFile string) (*Authority, error) {
	p := &pki{certFile: certFile, keyFile: keyFile, caFile: caFile}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.reload(); err != nil {
		return nil, err
	}
	return &Authority{impl: p}, nil
}

type pki struct {
	certFile, keyFile, caFile string

	mu      sync.Mutex
	stamp   [3]stamp         // of the files last read; guarded by mu
	roots   *x509.CertPool   // guarded by mu; replaced, never changed
	cert    *tls.Certificate // guarded by mu; replaced, never changed
	vouched *tls.Certificate // cert with the voucher for owner; guarded by mu
	owner   *Identity        // of vouched; guarded by mu
	err     error            // of the last attempt to read the files; guarded by mu
}

// stamp tells whether a file was replaced or written.
type stamp struct {
	size, mtime int64
	inode       uint64
}

// refresh reads the files again if they changed. An error leaves the old ones
// in use and is tried again at the next handshake: most likely they are being
// replaced just now. Called with mu held.
func (p *pki) refresh() {
	now, err := p.stamps()
	if err == nil && now != p.stamp {
		err = p.reload()
	}
	p.err = err
}

func (p *pki) problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
	return p.err
}

func (p *pki) stamps() (s [3]stamp, err error) {
	for i, path := range []string{p.certFile, p.keyFile, p.caFile} {
		info, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[i] = stamp{size: info.Size(), mtime: info.ModTime().UnixNano(), inode: inode(info)}
	}
	return s, nil
}

// reload replaces what is in use, all or nothing. Called with mu held.
func (p *pki) reload() error {
	stamps, err := p.stamps()
	if err != nil {
		return fmt.Errorf("load node certificate: %w", err)
	}
	certPEM, err := os.ReadFile(p.certFile)
	if err != nil {
		return fmt.Errorf("load node certificate: %w", err)
	}
	// A group may read it: distributions keep a group for certificate keys.
	keyPEM, err := readSecret(p.keyFile, 64<<10, 0o027)
	if err != nil {
		return fmt.Errorf("load key of node certificate: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("load node certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	caPEM, err := os.ReadFile(p.caFile)
	if err != nil {
		return fmt.Errorf("load certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return fmt.Errorf("load certificate authority %s: no certificate in it (want PEM)", p.caFile)
	}
	if p.owner != nil {
		// The node that is running must stay itself.
		if err := named(cert.Leaf, p.owner.Name); err != nil {
			return err
		}
	}
	p.stamp, p.roots, p.cert, p.vouched = stamps, roots, &cert, nil
	return nil
}

func (p *pki) certificate(id *Identity) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
	if p.vouched != nil && p.owner == id {
		return p.vouched, nil
	}
	if err := named(p.cert.Leaf, id.Name); err != nil {
		return nil, fmt.Errorf("node certificate %s %w: have one issued for this node, or set [node] name to what it says", p.certFile, err)
	}
	voucher, err := vouch(id, p.cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("vouch for node certificate: %w", err)
	}
	vouched := *p.cert
	vouched.Certificate = append(slices.Clone(p.cert.Certificate), voucher)
	p.vouched, p.owner = &vouched, id
	return p.vouched, nil
}

func (p *pki) verify(certs []*x509.Certificate) (Peer, error) {
	p.mu.Lock()
	p.refresh()
	roots := p.roots
	p.mu.Unlock()

	leaf := certs[0]
	others := x509.NewCertPool()
	for _, c := range certs[1:] {
		others.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: others,
		// Each node is both; many issuers only mark certificates for one use.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}); err != nil {
		if isUnknownIssuer(err) {
			return Peer{}, ErrRingKey
		}
		return Peer{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	for _, c := range certs[1:] {
		if !vouches(c, leaf) {
			continue
		}
		peer, err := nodeOf(c)
		if err != nil {
			return Peer{}, err
		}
		if err := named(leaf, peer.Name); err != nil {
			return Peer{}, fmt.Errorf("%w: it %w", ErrCertificate, err)
		}
		return peer, nil
	}
	return Peer{}, fmt.Errorf("%w: no node key vouches for it", ErrCertificate)
}

func (p *pki) refused() error {
	return fmt.Errorf("%w: it refuses this node's certificate (its log says why)", ErrRingKey)
}

// named reports an error unless cert was issued for the node called name.
func named(cert *x509.Certificate, name string) error {
	names := append([]string{cert.Subject.CommonName}, cert.DNSNames...)
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
		return nil
	}
	return fmt.Errorf("was issued for %s, not for node %q", clean(strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "" }), ", "), 256), name)
}

func vouch(id *Identity, leaf *x509.Certificate) ([]byte, error) {
	pub := id.Key.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: serial(sha256.Sum256(leaf.Raw)),
		Subject:      pkix.Name{CommonName: id.Name},
		NotBefore:    firstDate,
		NotAfter:     lastDate,
		URIs:         []*url.URL{voucherURI(leaf)},
	}
	return x509.CreateCertificate(nil, template, template, pub, id.Key)
}

func voucherURI(leaf *x509.Certificate) *url.URL {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return &url.URL{Scheme: voucherScheme, Opaque: hex.EncodeToString(sum[:])}
}

// vouches reports whether c is signed by its own key and names leaf's.
func vouches(c, leaf *x509.Certificate) bool {
	if len(c.URIs) != 1 || c.URIs[0].String() != voucherURI(leaf).String() {
		return false
	}
	return c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func isUnknownIssuer(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}
