package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

// nodeTries is how often a change of a node is tried anew when somebody else
// changed the same node meanwhile: what is wished is a difference, which
// follows from either.
const nodeTries = 5

// nodeEdit changes what operators said of a node. n is the node as the ring
// sees it. It is a pure function, and may be called again.
type nodeEdit func(body record.NodeBody, n api.Node) (record.NodeBody, error)

// changeNode reads a node's record, edits it, signs it and brings it, with
// compare-and-set. changed is false when it says so already.
func (a *app) changeNode(ctx context.Context, c *api.Client, name string, edit nodeEdit) (changed bool, err error) {
	key, err := a.operatorKey()
	if err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		changed, err := a.changeNodeOnce(ctx, c, name, key, edit)
		var problem *api.Problem
		if try < nodeTries && errors.As(err, &problem) && problem.Status == http.StatusConflict {
			continue
		}
		return changed, err
	}
}

func (a *app) changeNodeOnce(ctx context.Context, c *api.Client, name string, key record.PrivateKey, edit nodeEdit) (bool, error) {
	node, err := findNode(ctx, c, name)
	if err != nil {
		return false, err
	}
	ring, err := readRing(ctx, c)
	if err != nil {
		return false, err
	}
	k := record.NodeKey(name)
	entry, err := readEntry(ctx, c, ring.id, k)
	if err != nil {
		return false, err
	}
	have, err := nodeBody(entry)
	if err != nil {
		return false, err
	}
	want, err := edit(have, node)
	if err != nil {
		return false, err
	}
	body, err := record.EncodeNode(want)
	if err != nil {
		return false, err
	}
	if old, err := record.EncodeNode(have); err == nil && bytes.Equal(old, body) && entry.Conflict() == "" {
		return false, nil
	}
	envelope, err := record.Sign(record.Next(entry, ring.id, k, a.author(key), a.now()), body, key)
	if err != nil {
		return false, err
	}
	acc, err := c.PutRecord(ctx, string(k.Kind), k.Name, envelope)
	if err != nil {
		return false, err
	}
	a.warnAccepted("node/"+name, acc)
	return true, nil
}

// nodeBody is what the ring has of a node; zero when nobody said anything.
func nodeBody(entry record.Entry) (record.NodeBody, error) {
	if entry.Empty() || entry.Winner().Delete {
		return record.NodeBody{}, nil
	}
	w := entry.Winner()
	if w.Schema > record.Schema {
		return record.NodeBody{}, newer(w.Key, record.ErrNewer)
	}
	body, err := record.DecodeNode(w.Body)
	if err != nil {
		return body, newer(w.Key, err)
	}
	return body, nil
}

// findNode returns one of the ring's nodes.
func findNode(ctx context.Context, c *api.Client, name string) (api.Node, error) {
	if !spec.ValidNodeName(name) {
		return api.Node{}, fmt.Errorf("%q is not the name of a node", name)
	}
	list, err := c.Nodes(ctx)
	if err != nil {
		return api.Node{}, err
	}
	i := slices.IndexFunc(list.Nodes, func(n api.Node) bool { return n.Name == name })
	if i < 0 {
		return api.Node{}, noNode(name, list.Nodes)
	}
	return list.Nodes[i], nil
}

// toldNode prints what became of a node, a word as kubectl has them.
func (a *app) toldNode(name, word string) {
	if a.output == "name" {
		word = ""
	} else {
		word = " " + word
	}
	fmt.Fprintf(a.stdout, "node/%s%s\n", clean(name), clean(word))
}
