package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/internal/durable"
	"github.com/agentd/agentd/spec/record"
)

// Small facts that outlive the process, each a file of its own in data_dir,
// written through to the disk before it is relied upon.
const (
	ringFile  = "ring.id"    // the ring that everything in this folder belongs to
	bootFile  = "boot"       // counts the starts of agentd
	leftFile  = "left"       // there while this node has left its ring
	peersFile = "peers.json" // addresses of gossip that were alive once

	forgottenFile = "forgotten.json" // by node, the operator's word that was followed
)

// bindRing ties data_dir to one ring, so that a key file swapped by mistake
// neither mixes two rings nor loses what is there.
func bindRing(dir string, id record.RingID) error {
	path := filepath.Join(dir, ringFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return durable.WriteFile(path, []byte(id.String()+"\n"), 0o640)
	}
	if err != nil {
		return fmt.Errorf("read the ring of data_dir: %w", err)
	}
	have := strings.TrimSpace(string(b))
	if have == id.String() {
		return nil // nothing to write: a full disk must not keep daemons from starting
	}
	if have == "" {
		return durable.WriteFile(path, []byte(id.String()+"\n"), 0o640)
	}
	return &hintError{
		fmt.Errorf("%s belongs to ring %s, and the ring key is of ring %s: nothing was changed", dir, have, id),
		"put the right ring.key back; to move this node to the other ring, run agentctl leave first and then move " + dir + " away",
	}
}

// hintError is an error that knows what the reader can do about it.
type hintError struct {
	error
	hint string
}

// Hint says what to do.
func (e *hintError) Hint() string  { return e.hint }
func (e *hintError) Unwrap() error { return e.error }

// boot tells this start apart from all earlier ones.
type boot struct {
	Count   uint64 `json:"count"`   // of starts of agentd on this data_dir
	Machine string `json:"machine"` // see bootID
	Turns   bool   `json:"turns"`   // agentd takes part in rollouts here, so that its state of them has to be there
}

// bootID names the time since the machine was booted; "" when it can't be read,
// which counts as a reboot.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	stat, _ := os.ReadFile("/proc/1/stat")
	return bootName(string(id), string(stat))
}

// bootName is the kernel's name for its boot and the time at which PID 1 was
// started: a machine that is a container has its host's kernel, and an init of
// its own.
func bootName(id, stat string) string {
	id = strings.TrimSpace(id)
	// The name in parentheses may hold anything: fields start after the last ')'.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if id != "" && len(f) > 19 {
		return id + "." + f[19] // field 22 of proc(5)
	}
	return id
}

// nextBoot counts this start and reports whether the machine itself was booted
// since the last one. A first start is no reboot: there is nothing old to start.
// A count that could not be written down is an error, and good for this start
// all the same: peers that remember a larger one are gone beyond.
//
// old says whether turns in rollouts were taken by an agentd that ran before:
// then its state of them has to be here.
func nextBoot(dir, machine string) (b boot, rebooted, old bool, err error) {
	path := filepath.Join(dir, bootFile)
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return boot{Count: 1, Turns: true}, true, true, fmt.Errorf("read the boot counter: %w", err)
	}
	var last boot
	if len(raw) > 0 && json.Unmarshal(raw, &last) != nil {
		// A counter that can't be read starts far above what it can have been,
		// so that peers do not take this node's word for an older one.
		last = boot{Count: 1 << 32, Turns: true}
	}
	b = boot{Count: last.Count + 1, Machine: machine, Turns: true}
	raw, err = json.Marshal(b)
	if err != nil {
		return boot{}, false, last.Turns, err
	}
	// An agentd of before wrote only the kernel's part.
	same := machine != "" && (machine == last.Machine || strings.HasPrefix(machine, last.Machine+"."))
	rebooted = last.Count > 0 && !same
	return b, rebooted, last.Turns, durable.WriteFile(path, raw, 0o640)
}

func readLeft(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, leftFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func writeLeft(dir string) error {
	return durable.WriteFile(filepath.Join(dir, leftFile), []byte("this node left its ring; agentctl join takes it back\n"), 0o640)
}

func clearLeft(dir string) error { return durable.Remove(filepath.Join(dir, leftFile)) }

// readPeers returns the addresses known from before; what can't be read is as
// good as nothing, since the seeds are there too.
func readPeers(dir string) []string {
	var peers []string
	raw, err := os.ReadFile(filepath.Join(dir, peersFile))
	if err != nil || json.Unmarshal(raw, &peers) != nil {
		return nil
	}
	return peers
}

func writePeers(dir string, peers []string) error {
	raw, err := json.Marshal(peers)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, peersFile), raw, 0o640)
}

// readForgotten returns which words about departed nodes were followed already.
func readForgotten(dir string) (map[string]string, error) {
	out := map[string]string{}
	raw, err := os.ReadFile(filepath.Join(dir, forgottenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read forgotten nodes: %w", err)
	}
	if !json.Valid(raw) {
		return out, nil // following a word twice is harmless enough
	}
	return out, json.Unmarshal(raw, &out)
}

func writeForgotten(dir string, m map[string]string) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, forgottenFile), raw, 0o640)
}
