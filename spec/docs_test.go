package spec_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/agentd/agentd/spec"
)

// The page has every key, and what it shows is valid.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../docs/daemon.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	var walk func(rt reflect.Type, path string)
	walk = func(rt reflect.Type, path string) {
		for rt.Kind() == reflect.Slice || rt.Kind() == reflect.Pointer {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for f := range rt.Fields() {
			key := f.Tag.Get("toml")
			if key == "-" {
				continue
			}
			// As a word of its own within code.
			if !regexp.MustCompile("`[^`]*\\b" + regexp.QuoteMeta(key) + "\\b[^`]*`").MatchString(page) {
				t.Errorf("docs/daemon.md does not mention %s%s", path, key)
			}
			walk(f.Type, path+key+".")
		}
	}
	walk(reflect.TypeFor[spec.Daemon](), "")

	examples := strings.Split(page, "```toml\n")[1:]
	if len(examples) < 5 {
		t.Errorf("only %d examples", len(examples))
	}
	for _, e := range examples {
		src, _, _ := strings.Cut(e, "```")
		if !strings.Contains(src, "image") {
			src = "name = \"x\"\nimage = \"x\"\n" + src
		}
		if _, err := spec.Parse([]byte(src), "docs/daemon.md"); err != nil {
			t.Errorf("%v in\n%s", err, src)
		}
	}
}

// Templates are for texts that may differ between nodes: a new key has to be
// decided on, and said on the page.
func TestTemplatedKeys(t *testing.T) {
	var got []string
	var walk func(rt reflect.Type, path string)
	walk = func(rt reflect.Type, path string) {
		for rt.Kind() == reflect.Slice || rt.Kind() == reflect.Pointer {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for f := range rt.Fields() {
			if f.Tag.Get("template") != "" {
				got = append(got, path+f.Tag.Get("toml"))
			}
			walk(f.Type, path+f.Tag.Get("toml")+".")
		}
	}
	walk(reflect.TypeFor[spec.Daemon](), "")
	const want = "image command args env working_dir hostname devices mounts.source files.content " +
		"health.startup.http health.startup.tcp health.startup.exec health.liveness.http health.liveness.tcp health.liveness.exec " +
		"health.readiness.http health.readiness.tcp health.readiness.exec hooks.post_start hooks.pre_stop " +
		"override.env override.args override.files.content"
	if list := strings.Join(got, " "); list != want {
		t.Errorf("expressions may stand in\n%s\nwant\n%s", list, want)
	}
}
