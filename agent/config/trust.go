package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentd/agentd/spec/record"
)

// ReadTrustDir reads the operators' public keys: the files dir/*.pub in the
// order of their names. A folder that does not exist trusts nobody. All
// problems are reported together, as *FileError each; one bad key refuses the
// whole folder, for trusting fewer people than somebody meant is as wrong as
// trusting more.
func ReadTrustDir(dir string) ([]record.PublicKey, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, openError(dir, err)
	}
	var errs []error
	if err := checkDir(dir); err != nil {
		errs = append(errs, err)
	}
	var keys []record.PublicKey
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".pub") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		b, err := readTrusted(path, writableByOthers, record.MaxKeyFile)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key, err := record.ParsePublicKey(b)
		if err != nil {
			errs = append(errs, &FileError{File: path, Msg: err.Error(), Err: err,
				Fix: "agentctl key new makes keys; the .pub file of one goes here"})
			continue
		}
		keys = append(keys, key)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}
