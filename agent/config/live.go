package config

import (
	"reflect"

	"github.com/agentd/agentd/spec/strict"
)

// Taking returns c with what a running agentd takes over from next without a
// restart: labels, taints, the join list, trusted operators, the policy, the log
// level and the limits of log files.
func (c Config) Taking(next Config) Config {
	c.Node.Labels, c.Node.Taints = next.Node.Labels, next.Node.Taints
	c.Ring.Join = next.Ring.Join
	c.Trust, c.Policy = next.Trust, next.Policy
	c.Log.Level, c.Log.MaxSize, c.Log.MaxFiles = next.Log.Level, next.Log.MaxSize, next.Log.MaxFiles
	return c
}

// Changed lists the keys whose values differ, such as "ring.bind", in the order
// of configs/agentd.toml.
func Changed(a, b Config) []string {
	var keys []string
	ra, rb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range ra.NumField() {
		section := ra.Type().Field(i).Tag.Get("toml")
		for j := range ra.Field(i).NumField() {
			if x, y := ra.Field(i).Field(j), rb.Field(i).Field(j); printed(x) != printed(y) {
				keys = append(keys, strict.Join(section, ra.Field(i).Type().Field(j).Tag.Get("toml")))
			}
		}
	}
	return keys
}
