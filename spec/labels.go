package spec

import (
	"regexp"
	"strings"
)

// Names that travel in keys of records; see ValidName and ValidNodeName.
const (
	// MaxDaemonName is what a record's key can hold (record.MaxName).
	MaxDaemonName = 63
	// MaxNodeName leaves room for the operation in the name of a control
	// record, "forget.NODE" and longer ones, within record.MaxName.
	MaxNodeName = 50
)

// The patterns are compiled once and never written to.
var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	nodePattern  = regexp.MustCompile(`^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$`)
)

// ValidName reports whether s can name a daemon.
func ValidName(s string) bool { return len(s) <= MaxDaemonName && namePattern.MatchString(s) }

// ValidNodeName reports whether s can name a node.
func ValidNodeName(s string) bool { return len(s) <= MaxNodeName && nodePattern.MatchString(s) }

// ValidLabelKey reports whether s is a label's key as Kubernetes has them: a
// name of at most 63 letters, digits, - _ and ., after an optional DNS prefix
// and a slash.
func ValidLabelKey(s string) bool {
	name := s
	if prefix, rest, ok := strings.Cut(s, "/"); ok {
		if len(prefix) > 253 || !nodePattern.MatchString(prefix) || strings.Contains(prefix, "_") {
			return false
		}
		name = rest
	}
	return len(name) <= 63 && labelPattern.MatchString(name)
}

// ValidLabelValue reports whether s is a label's value: empty, or at most 63
// letters, digits, - _ and ., with a letter or digit at both ends.
func ValidLabelValue(s string) bool {
	return s == "" || len(s) <= 63 && labelPattern.MatchString(s)
}
