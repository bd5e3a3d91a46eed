package config

import (
	"maps"
	"os"
	goruntime "runtime"
	"strings"

	"github.com/agentd/agentd/spec"
)

// NodeLabels returns all labels of a node: its own and those that every node
// has by itself, which come from the machine and win. version is agentd's.
func NodeLabels(n Node, version string) map[string]string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, AutoLabels(n.Name, host, version))
	return labels
}

// NodeTaints returns taints as they are written in a configuration or a node's
// record; what is none is left out.
func NodeTaints(written []string) []spec.Taint {
	var out []spec.Taint
	for _, s := range written {
		if t, err := spec.ParseTaint(s); err == nil {
			out = append(out, t)
		}
	}
	return out
}

// AutoLabels returns the labels that every node has by itself, and their
// Kubernetes synonyms. The host name falls back on the node's name when it can
// be no label.
func AutoLabels(node, hostname, version string) map[string]string {
	if hostname == "" || !spec.ValidLabelValue(hostname) {
		hostname = node
	}
	return map[string]string{
		"agentd/hostname":        hostname,
		"agentd/os":              goruntime.GOOS,
		"agentd/arch":            goruntime.GOARCH,
		"agentd/version":         labelValue(version),
		"kubernetes.io/hostname": hostname,
		"kubernetes.io/os":       goruntime.GOOS,
		"kubernetes.io/arch":     goruntime.GOARCH,
	}
}

// automatic reports whether a label is one that every node has by itself, or
// may become one.
func automatic(key string) bool {
	_, known := AutoLabels("n", "n", "0")[key]
	return known || strings.HasPrefix(key, "agentd/")
}

// labelValue makes a label's value out of any text, such as a version with a +.
func labelValue(s string) string {
	v := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, s)
	v = strings.Trim(v[:min(len(v), 63)], "-._")
	if v == "" {
		return "unknown"
	}
	return v
}
