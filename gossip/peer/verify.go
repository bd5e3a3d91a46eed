package peer

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/agentd/agentd/gossip"
)

// credentials is what one node shows and checks in handshakes.
type credentials struct {
	authority authority
	id        *Identity
	cert      func() (*tls.Certificate, error)
}

func newCredentials(a *Authority, id *Identity) (*credentials, error) {
	c := &credentials{authority: a.impl, id: id}
	cert, err := a.impl.certificate(id) // errors are for the start, not for the first caller
	if err != nil {
		return nil, err
	}
	if _, fixed := a.impl.(*derived); fixed {
		c.cert = func() (*tls.Certificate, error) { return cert, nil }
	} else {
		c.cert = func() (*tls.Certificate, error) { return a.impl.certificate(id) }
	}
	return c, nil
}

// config returns the TLS settings for either end of one connection; who is at
// the other is in peer once the handshake is done. A certificate is checked by
// VerifyConnection alone, hence InsecureSkipVerify: names in it are node names,
// not host names, and dates don't count under a ring key.
func (c *credentials) config(peer *Peer) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true, // every connection proves the key anew
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.cert() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert() },
		VerifyConnection: func(cs tls.ConnectionState) (err error) {
			*peer, err = c.verify(cs)
			return err
		},
	}
}

func (c *credentials) verify(cs tls.ConnectionState) (Peer, error) {
	if cs.NegotiatedProtocol != alpn {
		return Peer{}, ErrNotAgentd
	}
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, fmt.Errorf("%w: none shown", ErrCertificate)
	}
	return c.authority.verify(cs.PeerCertificates)
}

// nodeOf reads name and key out of a certificate made for a node.
func nodeOf(cert *x509.Certificate) (Peer, error) {
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return Peer{}, fmt.Errorf("%w: its key is no node key (%s, not Ed25519)", ErrCertificate, cert.PublicKeyAlgorithm)
	}
	name := cert.Subject.CommonName
	if !validNodeName(name) {
		return Peer{}, fmt.Errorf("%w: %q is no node name", ErrCertificate, clean(name, maxName))
	}
	return Peer{Name: name, ID: gossip.MakeNodeID(name, key), Key: key}, nil
}
