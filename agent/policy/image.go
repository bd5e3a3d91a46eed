package policy

import (
	"fmt"

	"github.com/distribution/reference"
)

// checkImage returns why the image may not run here, or "".
func (p *Policy) checkImage(image string) string {
	names, err := imageNames(image)
	if err != nil {
		return fmt.Sprintf("image %q can't be read: %v", image, err)
	}
	texts := make([]string, 0, len(p.images))
	for _, g := range p.images {
		for _, n := range names {
			if g.re.MatchString(n) {
				return ""
			}
		}
		texts = append(texts, g.text)
	}
	return fmt.Sprintf("image %s is in none of the permitted repositories (%s)", image, list(texts))
}

// imageNames returns all texts that a rule may name the image by: its
// repository in full (docker.io/library/nginx) and as written (nginx), each
// also with the tag, and the digest alone and with the repository. A tag beside
// a digest decides nothing about what runs and permits nothing.
func imageNames(image string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, err
	}
	repos := []string{named.Name()}
	if short := reference.FamiliarName(named); short != named.Name() {
		repos = append(repos, short)
	}
	names := append([]string(nil), repos...)
	if d, ok := named.(reference.Digested); ok {
		names = append(names, d.Digest().String())
		for _, r := range repos {
			names = append(names, r+"@"+d.Digest().String())
		}
		return names, nil
	}
	tag := "latest"
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	for _, r := range repos {
		names = append(names, r+":"+tag)
	}
	return names, nil
}
