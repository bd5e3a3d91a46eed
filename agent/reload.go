package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/agentd/agentd/agent/config"
	"github.com/agentd/agentd/agent/policy"
	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/spec/record"
)

// reloading is what becomes of the configuration while the agent runs.
type reloading struct {
	one sync.Mutex    // held while one reload goes on
	cfg config.Config // guarded by one: in effect, as far as it can be changed

	mu    sync.Mutex
	own   config.Node // guarded by mu: labels and taints of agentd.toml
	notes []string    // guarded by mu: what the last reload could not do
}

// ownNode is this node as agentd.toml has it now.
func (a *Agent) ownNode() config.Node {
	a.reload.mu.Lock()
	defer a.reload.mu.Unlock()
	return a.reload.own
}

// reloadNotes are what an operator should know since the last reload.
func (a *Agent) reloadNotes() []string {
	a.reload.mu.Lock()
	defer a.reload.mu.Unlock()
	return slices.Clone(a.reload.notes)
}

// Reload reads agentd.toml, its drop-ins and the trusted keys again and takes
// over what can be changed while the agent runs; what takes a restart is named.
// Neither the ring nor a container is touched. When anything is wrong with the
// files, nothing is changed and the error says what.
func (a *Agent) Reload(ctx context.Context) (api.Reloaded, error) {
	a.reload.one.Lock()
	defer a.reload.one.Unlock()
	a.manager.reloads()
	out, err := a.takeOver(ctx)
	var notes []string
	reason := reloadWords(out)
	if err != nil {
		reason = "configuration not reloaded, nothing changed: " + flat(err)
		notes = []string{reason}
	}
	for _, key := range out.Restart {
		notes = append(notes, keyWords(key)+" changed: takes a restart")
	}
	a.reload.mu.Lock()
	a.reload.notes = notes
	a.reload.mu.Unlock()
	if err != nil {
		a.log.Error("configuration not reloaded", "err", err)
	} else {
		a.log.Info("configuration reloaded", "changed", out.Changed, "restart", out.Restart)
	}
	a.emit(api.Event{Type: api.EventAgent, Reason: reason})
	a.back.Store(true) // the loop tells the service manager, with the new state in words
	poke(a.wake)
	if err != nil {
		return out, problem(http.StatusConflict, "nothing was changed: "+flat(err), "mend the file; agentd --check tells the same")
	}
	return out, nil
}

// takeOver does what Reload says; everything that can fail comes first.
func (a *Agent) takeOver(ctx context.Context) (api.Reloaded, error) {
	out := api.Reloaded{Schema: api.Schema, Node: a.cfg.Node.Name, Changed: []string{}, Restart: []string{}}
	loaded, err := config.Load(a.file)
	if err != nil {
		return out, err
	}
	was, next := a.reload.cfg, loaded.Config
	now := was.Taking(next)
	operators, errTrust := config.ReadTrustDir(now.Trust.Dir)
	key, errKey := config.ReadRingKey(next.Ring.KeyFile)
	pol, errPolicy := a.newPolicy(now)
	if err := errors.Join(errTrust, errKey, errPolicy); err != nil {
		return out, err
	}
	trust := record.NewTrust(operators...)
	if before := a.store.Trust(); before.ID() != trust.ID() {
		if err := a.store.SetTrust(ctx, trust); err != nil {
			return out, err
		}
		out.Changed = append(out.Changed, "trust: "+trustWords(before, trust))
	}
	out.Changed = append(out.Changed, config.Changed(was, now)...)
	out.Restart = append(out.Restart, config.Changed(now, next)...)
	if !key.Equal(a.ringKey) && !slices.Contains(out.Restart, "ring.key_file") {
		out.Restart = append(out.Restart, "ring.key_file")
	}
	for _, k := range out.Changed {
		if strings.HasPrefix(k, "policy.") || k == "trust.dir" {
			a.super.SetPolicy(pol)
			break
		}
	}
	a.ring.SetSeeds(was.Ring.Join, now.Ring.Join)
	a.reload.cfg = now
	a.reload.mu.Lock()
	a.reload.own = now.Node
	a.reload.mu.Unlock()
	if a.reloaded != nil {
		a.reloaded(now)
	}
	return out, nil
}

// newPolicy compiles what this node permits.
func (a *Agent) newPolicy(c config.Config) (*policy.Policy, error) {
	// Whoever can reach these is root, or signs in an operator's name.
	return policy.New(c.Policy,
		filepath.Dir(a.file), filepath.Dir(a.cfg.Ring.KeyFile), c.Trust.Dir, a.cfg.Node.DataDir,
		filepath.Dir(a.cfg.Runtime.Address), filepath.Dir(a.cfg.API.Socket))
}

// reloadWords sums a reload up.
func reloadWords(r api.Reloaded) string {
	out := "configuration reloaded"
	if len(r.Changed)+len(r.Restart) == 0 {
		return out + ", nothing changed"
	}
	if len(r.Changed) > 0 {
		out += ": " + strings.Join(r.Changed, ", ")
	}
	if len(r.Restart) > 0 {
		out += "; takes a restart: " + strings.Join(r.Restart, ", ")
	}
	return out
}

// keyWords writes "ring.bind" as it stands in the file: "[ring] bind".
func keyWords(key string) string {
	section, name, ok := strings.Cut(key, ".")
	if !ok {
		return key
	}
	return "[" + section + "] " + name
}

// trustWords names the operators who came and went.
func trustWords(before, after *record.Trust) string {
	var out []string
	for _, side := range []struct {
		sign     string
		of, than *record.Trust
	}{{"+", after, before}, {"-", before, after}} {
		for _, k := range side.of.Keys() {
			if _, both := side.than.Lookup(k.ID()); !both {
				out = append(out, strings.TrimSpace(fmt.Sprintf("%s%s %s", side.sign, k.ID(), k.Comment)))
			}
		}
	}
	return strings.Join(out, ", ")
}

// flat returns an error's words on one line.
func flat(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
