package events

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd/agentd/api"
)

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running runs l until stop is called.
func running(t testing.TB, l *Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func all(t testing.TB, l *Log) []api.Event {
	t.Helper()
	var list []api.Event
	err := l.Read(context.Background(), time.Time{}, false, func(e api.Event) error {
		list = append(list, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func reasons(list []api.Event) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Reason)
	}
	return out
}

func sizeOf(t testing.TB, dir string) (total int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // trimmed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

// Events come out as they went in, over restarts, with numbers that go on.
func TestKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	code := 137
	for round := range 3 {
		l := open(t, Config{Dir: dir, Node: "web-1"})
		stop := running(t, l)
		l.Emit(api.Event{Daemon: "a", Type: api.EventExit, Reason: fmt.Sprintf("out of memory %d", round), ExitCode: &code, OOM: true})
		l.Emit(api.Event{Daemon: "a", Type: api.EventState, From: "running", To: "backoff"})
		stop()
	}
	list := all(t, open(t, Config{Dir: dir, Node: "other"}))
	if len(list) != 6 {
		t.Fatalf("%d events: %+v", len(list), list)
	}
	for i, e := range list {
		if e.Seq != uint64(i+1) || e.Node != "web-1" || e.Time.IsZero() || e.Daemon != "a" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if e := list[4]; e.Reason != "out of memory 2" || e.ExitCode == nil || *e.ExitCode != 137 || !e.OOM || e.Type != "exit" {
		t.Errorf("event %+v", e)
	}
}

// What is not on disk yet is read all the same.
func TestReadBeforeWritten(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	l.Emit(api.Event{Reason: "one"})
	if got := reasons(all(t, l)); !slices.Equal(got, []string{"one"}) {
		t.Errorf("read %q", got)
	}
	stop := running(t, l)
	stop()
	l.Emit(api.Event{Reason: "two"})
	if got := reasons(all(t, l)); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q", got)
	}
}

// The files stay within the limit; the newest events are those that are kept.
func TestBounded(t *testing.T) {
	const limit = 16 << 10
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, MaxBytes: limit})
	stop := running(t, l)
	const n = 2000
	for i := range n {
		for len(l.wake) > 0 && i%100 == 99 { // at the disk's pace
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
			}
		}
		l.Emit(api.Event{Reason: fmt.Sprintf("event %d %s", i, strings.Repeat("x", i%300))})
		if got := sizeOf(t, dir); got > limit {
			t.Fatalf("after %d events: %d bytes", i, got)
		}
	}
	stop()
	if got := sizeOf(t, dir); got > limit || got < limit/2 {
		t.Errorf("%d bytes of %d are used", got, limit)
	}
	for _, l := range []*Log{l, open(t, Config{Dir: dir, MaxBytes: limit})} {
		list := all(t, l)
		last := list[len(list)-1]
		if !strings.HasPrefix(last.Reason, fmt.Sprintf("event %d ", n-1)) {
			t.Errorf("the newest is %+v", last)
		}
		for i, e := range list {
			if e.Seq != list[0].Seq+uint64(i) {
				t.Fatalf("event %d follows %d", e.Seq, list[i-1].Seq)
			}
		}
	}
	// A smaller limit counts at once.
	open(t, Config{Dir: dir, MaxBytes: limit / 2})
	if got := sizeOf(t, dir); got > limit/2+limit/segments {
		t.Errorf("%d bytes are left", got)
	}
}

// A machine that stops while it writes loses that line and no other; damage in
// the middle costs what is damaged.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	stop := running(t, l)
	for i := range 5 {
		l.Emit(api.Event{Reason: fmt.Sprintf("event %d", i)})
	}
	stop()
	path := l.files.list[0].path
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range text {
		if err := os.WriteFile(path, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := strings.Count(string(text[:cut]), "\n")
		l := open(t, Config{Dir: dir})
		l.Emit(api.Event{Reason: "after"})
		running(t, l)()
		list := all(t, open(t, Config{Dir: dir}))
		if len(list) != whole+1 || list[whole].Reason != "after" || list[whole].Seq != uint64(whole+1) {
			t.Fatalf("cut at %d of %d: %+v", cut, len(text), list)
		}
	}
	damaged := []byte(strings.Replace(string(text), `"reason":"event 2"`, `"reason:"event 2"`, 1))
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := reasons(all(t, open(t, Config{Dir: dir}))); !slices.Equal(got, []string{"event 0", "event 1", "event 3", "event 4"}) {
		t.Errorf("after damage: %q", got)
	}
}

func TestSince(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 3 {
		l.Emit(api.Event{Time: at.Add(time.Duration(i) * time.Minute), Reason: fmt.Sprint(i)})
	}
	var got []string
	err := l.Read(t.Context(), at.Add(time.Minute), false, func(e api.Event) error {
		got = append(got, e.Reason)
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %q: %v", got, err)
	}
	enough := errors.New("enough")
	if err := l.Read(t.Context(), at, false, func(api.Event) error { return enough }); err != enough { //nolint:errorlint // as it is
		t.Errorf("the caller's error became %v", err)
	}
}

// Readers that follow get each event once, in order, whether it was on disk or
// on its way, over the turn of files; slow ones hold up nobody.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Dir: dir, MaxBytes: 64 << 10})
		stop := running(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		const readers, n = 3, 300
		got := make([][]uint64, readers)
		done := make(chan error, readers)
		for r := range readers {
			go func() {
				done <- l.Read(ctx, time.Time{}, true, func(e api.Event) error {
					got[r] = append(got[r], e.Seq)
					return nil
				})
			}()
		}
		stuck := make(chan error, 1)
		go func() {
			stuck <- l.Read(ctx, time.Time{}, true, func(api.Event) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		for i := range n {
			l.Emit(api.Event{Reason: fmt.Sprint(i)})
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		cancel()
		for range readers {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("read: %v", err)
			}
		}
		if err := <-stuck; !errors.Is(err, context.Canceled) {
			t.Errorf("the slow reader: %v", err)
		}
		for r, list := range got {
			if len(list) != n || !slices.IsSorted(list) || list[n-1] != n {
				t.Errorf("reader %d got %d events, the last %d", r, len(list), list[len(list)-1])
			}
		}
		stop()
	})
}

// A disk that fails costs what finds no room while it does, and that is told.
func TestDiskFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Dir: dir})
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		stop := running(t, l)
		for i := range maxQueue + 10 {
			l.Emit(api.Event{Reason: fmt.Sprint(i)})
			synctest.Wait()
		}
		if list := all(t, l); len(list) != maxQueue {
			t.Errorf("%d events can be read while the disk fails", len(list))
		}
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter + time.Second)
		synctest.Wait()
		l.Emit(api.Event{Reason: "again"})
		stop()
		list := all(t, open(t, Config{Dir: dir}))
		if len(list) != maxQueue+2 {
			t.Fatalf("%d events were kept", len(list))
		}
		if e := list[maxQueue]; e.Type != api.EventLost || !strings.HasPrefix(e.Reason, "10 events") {
			t.Errorf("the loss is told as %+v", e)
		}
	})
}

// One event can't fill the log, and what is no text does not spoil a line.
func TestLongAndDirty(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	l.Emit(api.Event{Reason: strings.Repeat("ä", maxReason)})
	l.Emit(api.Event{Reason: "a\xffb\nc"})
	l.Emit(api.Event{Time: time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC), Reason: "no such year"})
	l.Emit(api.Event{Reason: "after"})
	running(t, l)()
	list := all(t, l)
	if len(list) != 3 || len(list[0].Reason) > maxReason+3 || !strings.HasSuffix(list[0].Reason, "ä…") {
		t.Fatalf("%d events, the first of %d bytes", len(list), len(list[0].Reason))
	}
	if list[1].Reason != "a\uFFFDb\nc" || list[2].Reason != "after" {
		t.Errorf("%q", reasons(list))
	}
}

func TestForeignFilesStay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"README", "5.jsonl", "x.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, Config{Dir: dir})
	l.Emit(api.Event{Reason: "one"})
	running(t, l)()
	if list := all(t, open(t, Config{Dir: dir})); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "5.jsonl")); err != nil || string(text) != "mine" {
		t.Errorf("%q: %v", text, err)
	}
}

// Whatever the newest file holds, the log opens, goes on and is read.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-02T03:04:05Z","node":"a","type":"exit","reason":"x"}` + "\n{\"seq\":"))
	f.Add([]byte("\n\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(segmentAt(dir, 1).path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, Config{Dir: dir})
		l.Emit(api.Event{Reason: "after"})
		running(t, l)()
		list := all(t, open(t, Config{Dir: dir}))
		if len(list) == 0 || list[len(list)-1].Reason != "after" {
			t.Fatalf("%+v", list)
		}
	})
}
