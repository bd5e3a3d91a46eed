package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/agentd/agentd/spec/record"
)

const (
	floorSchema  = 1
	maxFloorFile = 8 << 20 // some 60,000 daemons, deleted ones included
)

// floorFile is the file's JSON.
type floorFile struct {
	Schema int                      `json:"schema"`
	Floor  map[string]floorVersions `json:"floor"` // by record key, "daemon/x"
}

type floorVersions struct {
	Generation uint64        `json:"generation"`
	Digest     record.Digest `json:"digest"`
}

// FloorFile returns the path of the floor in the configuration folder dir: the
// versions that the ring had when this node joined. A record older than its
// floor is never started, so that a fresh node can't be fed what was replaced
// or deleted long ago.
func FloorFile(dir string) string { return filepath.Join(dir, "floor.json") }

// MarshalFloor returns the floor as the text that ReadFloor reads.
func MarshalFloor(floor map[string]record.Version) []byte {
	f := floorFile{Schema: floorSchema, Floor: map[string]floorVersions{}}
	for k, v := range floor {
		f.Floor[k] = floorVersions(v)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		panic("config: marshal floor: " + err.Error()) // strings and numbers only
	}
	return append(b, '\n')
}

// ReadFloor reads the floor at path. A file that does not exist is an empty
// floor: the first node of a ring has none. Errors are *FileError.
func ReadFloor(path string) (map[string]record.Version, error) {
	b, err := readTrusted(path, writableByOthers, maxFloorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	floor, err := parseFloor(b)
	if err != nil {
		return nil, &FileError{File: path, Msg: "is not a floor: " + err.Error(), Err: err,
			Fix: "join again: agentctl join, with a fresh token of the ring"}
	}
	return floor, nil
}

func parseFloor(b []byte) (map[string]record.Version, error) {
	var f floorFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	if f.Schema != floorSchema {
		return nil, fmt.Errorf("its schema is %d, and %d is understood", f.Schema, floorSchema)
	}
	out := make(map[string]record.Version, len(f.Floor))
	for k, v := range f.Floor {
		if _, err := record.ParseKey(k); err != nil {
			return nil, err
		}
		out[k] = record.Version(v)
	}
	return out, nil
}
