package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/agentd/agentd"

// mayImport is the direction of imports: for each package, which packages of
// agentd its non-test code may import. "x/..." is x and all below it.
var mayImport = map[string][]string{
	"internal/durable": nil,
	"spec/strict":      nil,
	"spec":             {"spec/strict"},
	"spec/record":      {"internal/durable"},

	"gossip":      nil,
	"gossip/...":  {"gossip/...", "internal/durable"},
	"runtime":     nil,
	"runtime/...": {"runtime/...", "internal/durable", "e2e/lab"}, // lab: the conformance suite's real half
	"api":         nil,

	"agent/config":  {"spec/...", "internal/durable"},
	"agent/rollout": {"spec/record", "internal/durable"},
	"agent/store":   {"spec/record", "gossip", "internal/durable"},
	"agent/doctor":  {"api", "agent/config", "spec/strict", "spec/record"},                       // agentctl's too
	"agent/logs":    {"api", "runtime", "runtime/logfile", "runtime/logger", "internal/durable"}, // reads what agentd-log writes
	"agent/...":     {"agent/...", "spec/...", "runtime", "gossip/...", "api", "internal/durable"},

	"cmd/agentctl": {"api", "spec/...", "agent/config", "agent/doctor", "internal/durable"},
	"cmd/...":      {"agent/...", "spec/...", "runtime/...", "gossip/...", "api", "internal/durable"},

	"packaging/man":  nil,
	"packaging/sbom": nil,
	"packaging":      nil,

	"e2e/...": {"..."},
}

// soleImporter says which part of agentd alone may know a library.
var soleImporter = map[string]string{
	"github.com/hashicorp/memberlist":  "gossip",
	"github.com/containerd/containerd": "runtime/containerd",
	"github.com/containerd/typeurl":    "runtime/containerd",
	"github.com/containerd/cgroups":    "runtime/containerd",
	"github.com/spf13/cobra":           "cmd",
}

// pure packages decide; they touch no file, network or process.
var pure = []string{"spec", "spec/strict", "spec/record"}

// outside is what a pure package has no use for.
var outside = []string{"os", "os/exec", "net", "net/http", "log", "log/slog", "syscall", "golang.org/x/sys/unix"}

type pkg struct {
	ImportPath string
	Imports    []string
}

// Imports point one way, and each library has one door.
func TestImportDirection(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := ruleFor(name)
		if !known {
			t.Errorf("%s: no rule says what it may import; add one to mayImport", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module+"/"); ok && !slices.ContainsFunc(allowed, func(p string) bool { return match(p, ours) }) {
				t.Errorf("%s imports %s; it may import only %q", name, ours, allowed)
			}
			for library, owner := range soleImporter {
				if strings.HasPrefix(imp, library) && !under(name, owner) && !under(name, "e2e") {
					t.Errorf("%s imports %s; only %s may", name, imp, owner)
				}
			}
		}
	}
}

// The pure packages have no way to reach the outside world.
func TestPurePackages(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if !slices.Contains(pure, name) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(outside, imp) && !(imp == "net" && onlyWords(t, name)) {
				t.Errorf("%s imports %s: it decides, it does not act", name, imp)
			}
		}
	}
}

// onlyWords reports whether a package uses package net for nothing but taking
// addresses apart.
func onlyWords(t *testing.T, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	ok := true
	for _, f := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if sel, is := n.(*ast.SelectorExpr); is {
				if x, is := sel.X.(*ast.Ident); is && x.Name == "net" && sel.Sel.Name != "SplitHostPort" && sel.Sel.Name != "JoinHostPort" {
					ok = false
				}
			}
			return true
		})
	}
	return ok
}

// ruleFor finds the most specific rule.
func ruleFor(name string) ([]string, bool) {
	if rule, ok := mayImport[name]; ok {
		return rule, true
	}
	best, found := "", false
	for pattern := range mayImport {
		if strings.HasSuffix(pattern, "/...") && match(pattern, name) && len(pattern) > len(best) {
			best, found = pattern, true
		}
	}
	return mayImport[best], found
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return under(name, base)
	}
	return pattern == name
}

func under(name, base string) bool { return name == base || strings.HasPrefix(name, base+"/") }

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}
