package store

import (
	"bytes"
	"testing"

	"github.com/agentd/agentd/spec/record"
)

func FuzzDecodeFile(f *testing.F) {
	f.Add(encodeFile(recordTag, []byte("{}")))
	f.Add(encodeFile(recordTag, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, err := decodeFile(recordTag, b)
		if err == nil && !bytes.Equal(encodeFile(recordTag, content), b) {
			t.Fatalf("%q is not the one form of its content", b)
		}
	})
}

func FuzzDecodeRatchet(f *testing.F) {
	f.Add([]byte("7 0000000000000000000000000000000000000000000000000000000000000000\n"), true)
	f.Add(encodeRatchet(record.Version{Generation: 1}), false)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // with a right checksum the content is looked at
			b = encodeFile(ratchetTag, b)
		}
		if v, err := decodeRatchet(b); err == nil {
			if again, err := decodeRatchet(encodeRatchet(v)); err != nil || again != v {
				t.Fatalf("%v came back as %v, %v", v, again, err)
			}
		}
	})
}

func FuzzRecordName(f *testing.F) {
	f.Add("daemon.web.7.0123456789ab.rec")
	f.Add("control.forget.web-1.example.com.9007199254740991.0123456789ab.rec")
	f.Fuzz(func(t *testing.T, name string) {
		id, ok := parseRecordName(name)
		if !ok {
			return
		}
		r := record.Record{Header: record.Header{Key: id.key, Generation: id.generation}}
		again, ok := parseRecordName(recordName(r, len(id.digest)))
		if !ok || again.key != id.key || again.generation != id.generation {
			t.Fatalf("%q: %+v, %+v", name, id, again)
		}
	})
}

// FuzzOpen puts any bytes where a record is expected.
func FuzzOpen(f *testing.F) {
	key, err := record.GenerateKey("")
	if err != nil {
		f.Fatal(err)
	}
	trust := record.NewTrust(key.Public())
	env, err := record.Sign(record.Header{Ring: ring(), Key: daemon("web"), Generation: 1}, []byte("x"), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("daemon.web.1.0123456789ab.rec", env, true)
	f.Add("daemon.web.1.0123456789ab.rec", []byte("agentd-record-1 \n"), false)
	f.Fuzz(func(t *testing.T, name string, b []byte, wrap bool) {
		if id, ok := parseRecordName(name); !ok || id.key.Valid() != nil {
			name = "x.rec"
		}
		if wrap {
			b = encodeFile(recordTag, b)
		}
		disk := newMemDisk()
		if err := disk.MkdirAll("/data/records"); err != nil {
			t.Fatal(err)
		}
		file, err := disk.Create("/data/records/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(b); err != nil {
			t.Fatal(err)
		}
		s := open(t, Config{Trust: trust, disk: disk})
		if again := open(t, Config{Trust: trust, disk: disk}); again.Root() != s.Root() || len(again.List("")) != len(s.List("")) {
			t.Fatal("a second start sees something else")
		}
	})
}
