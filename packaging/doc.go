// Package packaging holds what makes the deb and the rpm: build.sh, nfpm's
// input, the unit, the maintainer scripts; and tests of what comes out.
package packaging
