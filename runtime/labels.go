package runtime

import "maps"

// Counter reports whether a label counts or remembers something about the
// instances of a container. Counters are written by SetLabels, outlive a
// recreation of the container with the same digest, and are never reset by an
// Ensure that adopts.
func Counter(label string) bool {
	switch label {
	case LabelRestarts, LabelWindow, LabelExit, LabelStarted:
		return true
	}
	return false
}

// MergeLabels returns the labels of a container that replaces one labelled old
// (nil: none): those wanted, and of the old one's counters those not in want,
// provided that both have the same LabelDigest. LabelStarted is the old
// instance's alone.
func MergeLabels(old, want map[string]string) map[string]string {
	out := make(map[string]string, len(want)+4)
	if old[LabelDigest] == want[LabelDigest] {
		for k, v := range old {
			if Counter(k) && k != LabelStarted {
				out[k] = v
			}
		}
	}
	maps.Copy(out, want)
	return out
}
