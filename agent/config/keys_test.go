package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentd/agentd/spec"
	"github.com/agentd/agentd/spec/record"
)

func TestRingKeyRoundTrip(t *testing.T) {
	k := NewRingKey()
	k.Keys = append(k.Keys, NewRingKey().Keys...)
	got, err := ParseRingKey(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(k) || got.ID != k.ID {
		t.Error("the key came back as another")
	}
	if o := NewRingKey(); o.ID == k.ID || bytes.Equal(o.Keys[0], k.Keys[0]) {
		t.Error("two new rings are alike")
	}
}

func TestRingKeyRefuses(t *testing.T) {
	k := NewRingKey()
	id, key := "agentd-ring-id-1 "+k.ID.String()+"\n", lineOf(t, k, "agentd-ring-key-1")
	tests := []struct{ name, text, want string }{
		{"empty", "", "there is no ring id"},
		{"comments only", "# x\n\n", "there is no ring id"},
		{"no key", id, "there is no ring key"},
		{"no id", key, "there is no ring id"},
		{"two ids", id + id + key, "line 2 has a second ring id"},
		{"the same key twice", id + key + key, "ring key 2 is there twice"},
		{"a short id", "agentd-ring-id-1 00ff\n" + key, "line 1: the ring id is not 32 hex digits"},
		{"an id of zeros", "agentd-ring-id-1 " + strings.Repeat("0", 32) + "\n" + key, "the ring id is all zeros"},
		{"a key of zeros", id + "agentd-ring-key-1 " + strings.Repeat("A", 43) + "=\n", "ring key 1 is all zeros"},
		{"a short key", id + "agentd-ring-key-1 AAAA\n", "line 2: the key is not 32 bytes in base64"},
		{"cut in the middle of a key", id + strings.TrimSpace(key)[:40], "line 2: the key is not 32 bytes in base64"},
		{"another file", "-----BEGIN PRIVATE KEY-----\n", "line 1 is not a word and a value"},
		{"an operator's key", "agentd-operator-key-1 AAAA\n", "line 1 begins with neither agentd-ring-id-1 nor agentd-ring-key-1"},
		{"too many keys", id + strings.Repeat(key, 9), "there are 9 ring keys, and at most 8 can be"},
		{"too long", strings.Repeat("#", 20_000), "more than 16384 bytes, which is no ring key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseRingKey([]byte(tt.text))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func lineOf(t *testing.T, k RingKey, tag string) string {
	t.Helper()
	for line := range strings.Lines(string(k.Marshal())) {
		if strings.HasPrefix(line, tag) {
			return line
		}
	}
	t.Fatal("no line " + tag)
	return ""
}

// Neither a log line nor an error may show a key.
func TestSecretsAreNotPrinted(t *testing.T) {
	k := NewRingKey()
	token := Token{RingName: "prod", Key: k}
	secret := strings.Fields(lineOf(t, k, "agentd-ring-key-1"))[1]
	raw := strings.Trim(fmt.Sprintf("%d", k.Keys[0]), "[]")
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", k, k, k, k), fmt.Sprintf("%#v", token)} {
		if strings.Contains(text, secret) || strings.Contains(text, raw) || strings.Contains(text, fmt.Sprintf("%#v", k.Keys[0])) {
			t.Errorf("a key is in %s", text)
		}
	}
	if _, err := ParseRingKey([]byte("agentd-ring-key-1 " + secret + "X\n")); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

func TestReadRingKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring.key")
	_, err := ReadRingKey(path)
	var fe *FileError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &fe) || !strings.Contains(fe.Hint(), "agentctl join") {
		t.Errorf("no file: %v", err)
	}
	k := NewRingKey()
	write(t, path, string(k.Marshal()), 0o600)
	if got, err := ReadRingKey(path); err != nil || !got.Equal(k) {
		t.Errorf("got %v", err)
	}
	if err := CheckSecretFile(path); err != nil {
		t.Error(err)
	}
	write(t, path, string(k.Marshal()), 0o640)
	for _, err := range []error{second(ReadRingKey(path)), CheckSecretFile(path)} {
		if err == nil || err.Error() != path+": holds a secret and has mode 0640, which lets others read or write it" ||
			!errors.As(err, &fe) || fe.Hint() != "chmod 600 "+path {
			t.Errorf("readable by a group: %v", err)
		}
	}
	write(t, path, "nonsense", 0o600)
	if _, err := ReadRingKey(path); !errors.As(err, &fe) || !strings.HasPrefix(fe.Msg, "is not a ring key: ") {
		t.Errorf("nonsense: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// stat is a file's owner and mode.
type stat struct {
	mode fs.FileMode
	uid  uint32
}

func (s stat) Name() string       { return "x" }
func (s stat) Size() int64        { return 0 }
func (s stat) Mode() fs.FileMode  { return s.mode }
func (s stat) ModTime() time.Time { return time.Time{} }
func (s stat) IsDir() bool        { return false }
func (s stat) Sys() any           { return &syscall.Stat_t{Uid: s.uid} }

func TestOwners(t *testing.T) {
	tests := []struct {
		name      string
		file      stat
		euid      int
		forbidden fs.FileMode
		want, fix string
	}{
		{"root's file, run by root", stat{0o644, 0}, 0, writableByOthers, "", ""},
		{"root's file, run by somebody", stat{0o644, 0}, 1000, writableByOthers, "", ""},
		{"one's own file", stat{0o644, 1000}, 1000, writableByOthers, "", ""},
		{"somebody's file, run by root", stat{0o644, 1000}, 0, writableByOthers, "/a b: is owned by user 1000, not by root", "chown root:root '/a b'"},
		{"somebody else's file", stat{0o644, 1001}, 1000, writableByOthers, "/a b: is owned by user 1001, neither by root nor by user 1000, who runs this", "chown 1000 '/a b'"},
		{"writable by the group", stat{0o664, 0}, 0, writableByOthers, "/a b: has mode 0664, so others than its owner can write it", "chmod go-w '/a b'"},
		{"writable by all", stat{0o646, 0}, 0, writableByOthers, "/a b: has mode 0646, so others than its owner can write it", "chmod go-w '/a b'"},
		{"a secret that all can read", stat{0o604, 0}, 0, openToOthers, "/a b: holds a secret and has mode 0604, which lets others read or write it", "chmod 600 '/a b'"},
		{"a secret that can't be written", stat{0o400, 0}, 0, openToOthers, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkOwner("/a b", tt.file, tt.forbidden, tt.euid)
			var fe *FileError
			switch {
			case tt.want == "" && err == nil:
			case !errors.As(err, &fe) || fe.Error() != tt.want || fe.Hint() != tt.fix:
				t.Errorf("got %v, want %q, %q", err, tt.want, tt.fix)
			}
		})
	}
}

func operator(t *testing.T, name string) record.PublicKey {
	t.Helper()
	k, err := record.GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

func TestReadTrustDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trust.d")
	if keys, err := ReadTrustDir(dir); err != nil || len(keys) != 0 {
		t.Errorf("no folder: %v, %v", keys, err)
	}
	a, b := operator(t, "ann"), operator(t, "bob")
	write(t, filepath.Join(dir, "b.pub"), string(b.Marshal()), 0o644)
	write(t, filepath.Join(dir, "a.pub"), string(a.Marshal()), 0o644)
	write(t, filepath.Join(dir, "README"), "not a key", 0o644)
	keys, err := ReadTrustDir(dir)
	if err != nil || len(keys) != 2 || keys[0] != a || keys[1] != b {
		t.Errorf("got %v, %v", keys, err)
	}
	// All problems at once, and then nobody is trusted.
	write(t, filepath.Join(dir, "b.pub"), string(b.Marshal()), 0o666)
	write(t, filepath.Join(dir, "c.pub"), "nonsense", 0o644)
	keys, err = ReadTrustDir(dir)
	if err == nil || keys != nil || !strings.Contains(err.Error(), "b.pub: has mode 0666") || !strings.Contains(err.Error(), "c.pub: ") {
		t.Errorf("got %v, %v", keys, err)
	}
}

func TestFloor(t *testing.T) {
	dir := t.TempDir()
	path := FloorFile(dir)
	if floor, err := ReadFloor(path); err != nil || len(floor) != 0 {
		t.Errorf("no file: %v, %v", floor, err)
	}
	want := map[string]record.Version{"daemon/x": {Generation: 1<<64 - 1, Digest: record.Digest{1, 2}}, "control/forget.web-1": {Generation: 2}}
	write(t, path, string(MarshalFloor(want)), 0o644)
	if got, err := ReadFloor(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, text := range map[string]string{
		"cut short":       string(MarshalFloor(want))[:50],
		"something after": string(MarshalFloor(want)) + "x",
		"a newer schema":  `{"schema":2,"floor":{}}`,
		"a key":           `{"schema":1,"floor":{"../x":{"generation":1}}}`,
		"an unknown key":  `{"schema":1,"floors":{}}`,
		"empty":           ``,
	} {
		write(t, path, text, 0o644)
		var fe *FileError
		if _, err := ReadFloor(path); !errors.As(err, &fe) || !strings.HasPrefix(fe.Msg, "is not a floor: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func anyToken() *rapid.Generator[Token] {
	return rapid.Custom(func(t *rapid.T) Token {
		tok := Token{RingName: rapid.StringMatching(`[a-z0-9]{1,10}`).Draw(t, "ring"), Key: NewRingKey()}
		for range rapid.IntRange(0, 2).Draw(t, "keys") {
			tok.Key.Keys = append(tok.Key.Keys, NewRingKey().Keys[0])
		}
		for range rapid.IntRange(0, 2).Draw(t, "operators") {
			k, err := record.GenerateKey(rapid.SampledFrom([]string{"", "ann@laptop"}).Draw(t, "comment"))
			if err != nil {
				t.Fatal(err)
			}
			tok.Operators = append(tok.Operators, k.Public())
		}
		tok.Addresses = rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.1:7946", "[fd00::1]:1", "web:7946"}), 0, 3).Draw(t, "addresses")
		if len(tok.Addresses) == 0 {
			tok.Addresses = nil
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "floor") {
			if tok.Floor == nil {
				tok.Floor = map[string]record.Version{}
			}
			tok.Floor[fmt.Sprintf("daemon/d%d", i)] = record.Version{Generation: rapid.Uint64().Draw(t, "generation"), Digest: record.Digest{byte(i)}}
		}
		return tok
	})
}

func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyToken().Draw(t, "token")
		text := want.String()
		if strings.ContainsAny(text, " \n\t'\"$") {
			t.Fatalf("a shell would not take %s whole", text)
		}
		n := rapid.IntRange(0, len(text)).Draw(t, "wrapped at")
		got, err := ParseToken(" " + text[:n] + "\r\n " + text[n:] + "\n")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v", want, got)
		}
	})
}

func TestTokenDamage(t *testing.T) {
	text := Token{RingName: "prod", Key: NewRingKey(), Operators: []record.PublicKey{operator(t, "ann")},
		Addresses: []string{"10.0.0.1:7946"}, Floor: map[string]record.Version{"daemon/x": {Generation: 3}}}.String()
	// However much of it is missing, it is said that some is.
	for n := len(tokenPrefix); n < len(text); n++ {
		if _, err := ParseToken(text[:n]); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("%d of %d characters: %v", n, len(text), err)
		}
	}
	if _, err := ParseToken(text[:100]); !strings.Contains(err.Error(), fmt.Sprintf("100 of %d characters", len(text))) {
		t.Errorf("got %v", err)
	}
	// Whichever character is mistyped, it is not accepted.
	for i := range text {
		for _, c := range []byte("Az-") {
			if text[i] == c {
				continue
			}
			if _, err := ParseToken(text[:i] + string(c) + text[i+1:]); err == nil {
				t.Fatalf("%c instead of %c at %d is accepted", c, text[i], i)
			}
		}
	}
	tests := []struct{ name, text, want string }{
		{"nothing", " \n", "the token is empty"},
		{"something else", "hello", "that is no token: one begins with agentd1-"},
		{"a later format", "agentd2-AAAA", "the token is in a format of another agentd: use the same version on both nodes"},
		{"twice", text + text, "something follows the token: copy it again, alone"},
		{"another word behind", text + "AAAA", "something follows the token: copy it again, alone"},
		{"a character that is none", text[:30] + "!" + text[31:], "the token has characters that no token has: copy it again, whole"},
		{"endless", "agentd1-" + strings.Repeat("A", maxToken), "the token is longer than 1048576 characters"},
	}
	for _, tt := range tests {
		if _, err := ParseToken(tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestNodeLabels(t *testing.T) {
	l := AutoLabels("web-1", "host.example.org", "1.2.0+dirty~x")
	if l["agentd/hostname"] != "host.example.org" || l["kubernetes.io/hostname"] != "host.example.org" || l["agentd/version"] != "1.2.0-dirty-x" || l["agentd/os"] != "linux" {
		t.Errorf("got %v", l)
	}
	if l := AutoLabels("web-1", "bad_host_", "???"); l["agentd/hostname"] != "web-1" || l["agentd/version"] != "unknown" {
		t.Errorf("got %v", l)
	}
	n := Node{Name: "web-1", Labels: map[string]string{"role": "edge", "agentd/os": "plan9"}}
	if l := NodeLabels(n, "1"); l["role"] != "edge" || l["agentd/os"] != "linux" || len(n.Labels) != 2 {
		t.Errorf("got %v", l)
	}
}

func TestNodeTaints(t *testing.T) {
	n := mustLoad(t, "[node]\ntaints = ['dedicated=gpu:NoSchedule', 'dedicated=gpu:NoExecute', 'example.org/x:NoExecute']").Node
	want := []spec.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}, {Key: "dedicated", Value: "gpu", Effect: "NoExecute"}, {Key: "example.org/x", Effect: "NoExecute"}}
	if got := NodeTaints(n.Taints); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := NodeTaints([]string{"bad", "a:NoExecute"}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestContainerLogs(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ containers, journal, want string }{
		{"auto", socket, "journald"},
		{"auto", plain, "file"}, // a left-over is no journal
		{"auto", filepath.Join(dir, "none"), "file"},
		{"file", socket, "file"},
		{"journald", filepath.Join(dir, "none"), "journald"}, // said is said
	}
	for _, tt := range tests {
		cfg := mustLoad(t, "[log]\ncontainers = '"+tt.containers+"'").Log
		if got := cfg.ContainerLogs(tt.journal); got != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.containers, filepath.Base(tt.journal), got, tt.want)
		}
	}
}

func FuzzParseRingKey(f *testing.F) {
	f.Add(NewRingKey().Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseRingKey(b)
		if err != nil {
			return
		}
		if again, err := ParseRingKey(k.Marshal()); err != nil || !again.Equal(k) {
			t.Fatalf("%v came back as %v, %v", k, again, err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{RingName: "prod", Key: NewRingKey(), Addresses: []string{"a:1"}, Floor: map[string]record.Version{"daemon/x": {Generation: 3}}}.String())
	f.Add("agentd1-AAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		if again, err := ParseToken(tok.String()); err != nil || !reflect.DeepEqual(again, tok) {
			t.Fatalf("%#v came back as %#v, %v", tok, again, err)
		}
	})
}

// The checksum keeps the fuzzer out of the content, so that goes without.
func FuzzDecodeToken(f *testing.F) {
	f.Add([]byte("\x01a0123456789abcdef\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = decodeToken(b) })
}

func FuzzParseFloor(f *testing.F) {
	f.Add(MarshalFloor(map[string]record.Version{"daemon/x": {Generation: 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		floor, err := parseFloor(b)
		if err != nil {
			return
		}
		if again, err := parseFloor(MarshalFloor(floor)); err != nil || !reflect.DeepEqual(again, floor) {
			t.Fatalf("%v came back as %v, %v", floor, again, err)
		}
	})
}
