package peer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/agentd/agentd/gossip"
)

const (
	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"
)

// helloAnswer is the body of a hello. Who the peer is, its certificate says.
type helloAnswer struct {
	Version string `json:"version"`
}

func (s *Server) hello(w http.ResponseWriter, _ *http.Request) {
	b, _ := json.Marshal(helloAnswer{Version: clean(s.cfg.Version, maxVersion)}) // a string only
	answer(w, typeJSON, b)
}

func (s *Server) summary(w http.ResponseWriter, _ *http.Request) {
	hashes := s.cfg.Source.BucketHashes()
	answer(w, typeBinary, appendSummary(nil, &hashes))
}

// items answers with the items of the buckets that the body names, one byte each.
func (s *Server) items(w http.ResponseWriter, r *http.Request) {
	buckets, ok := readBody(w, r, gossip.Buckets)
	if !ok {
		return
	}
	b := appendItems(nil, s.cfg.Source.Items(buckets))
	if len(b) > maxPage {
		refuse(w, problem{Code: codeTooLarge})
		return
	}
	answer(w, typeBinary, b)
}

// body answers with a record's envelope, as it was signed.
func (s *Server) body(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	key := q.Get("key")
	var digest gossip.Hash
	if b, err := hex.DecodeString(q.Get("digest")); err != nil || copy(digest[:], b) != len(digest) || len(b) != len(digest) || !validKey(key) {
		refuse(w, problem{Code: codeMalformed, Detail: "want key and digest"})
		return
	}
	envelope, ok := s.cfg.Source.Body(key, digest)
	if !ok {
		refuse(w, problem{Code: codeNotFound})
		return
	}
	answer(w, typeBinary, envelope)
}

func (s *Server) statements(w http.ResponseWriter, r *http.Request) {
	b, ok := readBody(w, r, maxPage)
	if !ok {
		return
	}
	e, err := parseExchange(b)
	if err != nil {
		refuse(w, asProblem(err))
		return
	}
	if len(e.Push) > 0 {
		s.cfg.Book.Accept(e.Push)
	}
	page, err := encodePage(s.cfg.Book, e.Instance, e.Cursor)
	if err != nil {
		s.cfg.Log.Error("statements can't be sent to other nodes", "err", err)
		refuse(w, asProblem(err))
		return
	}
	answer(w, typeBinary, page)
}

// encodePage asks for fewer statements until they fit. The book bounds its
// pages by itself; this is what holds if it ever does not.
func encodePage(book Statements, instance string, cursor uint64) ([]byte, error) {
	const most = 4096
	for limit := most; limit > 0; limit /= 4 {
		page := book.Page(instance, cursor, limit)
		for i := range page.Statements {
			if !sound(&page.Statements[i]) {
				return nil, fmt.Errorf("statement of %q in the book has impossible sizes", page.Statements[i].Node)
			}
		}
		if b := appendPage(nil, page); len(b) <= maxPage {
			return b, nil
		}
	}
	return nil, errors.New("one statement is larger than a page")
}

// push takes a record that the peer wants to be on disk here, and answers once
// it is. A record that lost against one held here is as good as on disk.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	envelope, ok := readBody(w, r, MaxEnvelope)
	if !ok {
		return
	}
	select {
	case s.pushes <- struct{}{}:
		defer func() { <-s.pushes }()
	default:
		refuse(w, problem{Code: codeBusy})
		return
	}
	// Once begun it is finished, whether or not the caller still waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	if _, err := s.cfg.Source.Offer(ctx, envelope); err != nil {
		refuse(w, problem{Code: codeRefused, Detail: clean(err.Error(), 512)})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readBody reads what was posted, or answers why it does not.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	b, err := readAll(r.Body, r.ContentLength, limit)
	if err != nil {
		w.Header().Set("Connection", "close") // or the server would wait for the rest
		refuse(w, asProblem(err))
		return nil, false
	}
	return b, true
}

// readAll reads a body of at most limit bytes. claimed is its length as
// announced, -1 for unknown: an honest too long one is refused before it is
// read, and a lying one gets no memory for what it does not send.
func readAll(r io.Reader, claimed, limit int64) ([]byte, error) {
	if claimed > limit {
		return nil, errTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrProtocol, err)
	}
	if int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, nil
}
