package config

import (
	"reflect"
	"slices"
	"testing"
)

// Every key is either taken by a reload or named as one that takes a restart.
func TestTakingAndChanged(t *testing.T) {
	live := []string{
		"node.labels", "node.taints", "ring.join", "trust.dir", "policy.images", "policy.host_paths", "policy.host_namespaces",
		"policy.capabilities", "policy.devices", "policy.privileged", "log.level", "log.max_size", "log.max_files",
	}
	was, all := Default(), Default()
	var keys []string
	rv := reflect.ValueOf(&all).Elem()
	for i := range rv.NumField() {
		for j := range rv.Field(i).NumField() {
			change(t, rv.Field(i).Field(j))
			keys = append(keys, rv.Type().Field(i).Tag.Get("toml")+"."+rv.Field(i).Type().Field(j).Tag.Get("toml"))
		}
	}
	if got := Changed(was, all); !slices.Equal(got, keys) {
		t.Errorf("changed %q, want all keys", got)
	}
	if got := Changed(was, was.Taking(all)); !slices.Equal(got, live) {
		t.Errorf("taken %q, want %q", got, live)
	}
	restart := Changed(was.Taking(all), all)
	for _, k := range keys {
		if slices.Contains(live, k) == slices.Contains(restart, k) {
			t.Errorf("%s: taken and restart are to be one or the other", k)
		}
	}
	if got := Changed(all, all); len(got) != 0 {
		t.Errorf("nothing changed, and yet %q", got)
	}
}

// change gives a value of the configuration another one.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{"x"}))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"x": "y"}))
	default:
		t.Fatalf("a key of kind %s: teach this test", v.Kind())
	}
}
