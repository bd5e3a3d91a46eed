package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// program is what is known of one binary.
type program struct {
	name, os, arch, goVersion, sha256 string
	module                            string // the main module
	deps                              []dep
}

// dep is a module that is linked into a program.
type dep struct{ path, version, sum string }

func readProgram(path string) (program, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return program{}, fmt.Errorf("read program: %w", err)
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return program{}, fmt.Errorf("read what is in %s: %w", path, err)
	}
	sum := sha256.Sum256(b)
	p := program{
		name: filepath.Base(path), goVersion: strings.TrimPrefix(info.GoVersion, "go"),
		sha256: hex.EncodeToString(sum[:]), module: info.Main.Path,
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			p.os = s.Value
		case "GOARCH":
			p.arch = s.Value
		}
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		p.deps = append(p.deps, dep{d.Path, d.Version, d.Sum})
	}
	return p, nil
}

// The parts of CycloneDX 1.5 that are used here.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []license  `json:"licenses,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	license struct {
		Expression string `json:"expression"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

// document lists the programs, and each module in them once.
func document(version string, at time.Time, programs []program) bom {
	const root = "agentd"
	doc := bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata: metadata{Timestamp: at.Format(time.RFC3339), Component: component{
			Type: "application", Ref: root, Name: root, Version: version, Licenses: []license{{"Apache-2.0"}},
		}},
	}
	top := dependency{Ref: root, DependsOn: []string{}}
	modules := map[string]component{}
	for _, p := range programs {
		ref := "program:" + p.os + "/" + p.arch + "/" + p.name
		doc.Components = append(doc.Components, component{
			Type: "application", Ref: ref, Name: p.name, Version: version, Hashes: []hash{{"SHA-256", p.sha256}},
			Properties: []property{{"go:arch", p.arch}, {"go:module", p.module}, {"go:os", p.os}, {"go:version", p.goVersion}},
		})
		on := dependency{Ref: ref, DependsOn: []string{}}
		for _, d := range append(p.deps, dep{path: "std", version: p.goVersion}) {
			m := moduleOf(d)
			modules[m.Ref] = m
			on.DependsOn = append(on.DependsOn, m.Ref)
		}
		slices.Sort(on.DependsOn)
		doc.Dependencies = append(doc.Dependencies, on)
		top.DependsOn = append(top.DependsOn, ref)
	}
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		doc.Components = append(doc.Components, modules[ref])
	}
	slices.Sort(top.DependsOn)
	doc.Dependencies = append([]dependency{top}, doc.Dependencies...)
	return doc
}

// moduleOf names a module by its package URL. Go's own sum is of a list of
// files and no file's hash, hence a property.
func moduleOf(d dep) component {
	parts := strings.Split(d.path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	purl := "pkg:golang/" + strings.Join(parts, "/") + "@" + strings.ReplaceAll(url.PathEscape(d.version), "+", "%2B")
	c := component{Type: "library", Ref: purl, Name: d.path, Version: d.version, PURL: purl}
	if d.sum != "" {
		c.Properties = []property{{"go:sum", d.sum}}
	}
	return c
}

// encode gives the document its serial number, which is made of what it says.
func encode(doc bom) ([]byte, error) {
	doc.Serial = ""
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	u := sha256.Sum256(b)
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // RFC 9562: version 8, of one's own making
	doc.Serial = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out.Bytes(), nil
}
