package machines

import (
	"strings"
	"testing"

	"github.com/agentd/agentd/runtime/bundle"
)

// leftover makes of a container's id, given as $1, what an interrupted start
// leaves at its worst: a bundle with mounts on top of each other, and a runc
// container that containerd knows nothing of.
const leftover = `
set -eu
bundle=/run/containerd/` + bundle.Part + `/agentd/$1
mkdir -p "$bundle/rootfs" /srv/precious /srv/other/rootfs /srv/upper
echo keep >/srv/precious/file
ctr -n agentd images mount agentd.test/testd:1 /mnt >/dev/null
cp -a /mnt/. /srv/other/rootfs/
ctr -n agentd images unmount --rm /mnt >/dev/null
cd /srv/other
runc spec
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"\/testd"/' config.json
runc --root /run/containerd/runc/agentd run -d "$1" </dev/null >/dev/null 2>&1
mount --bind /srv/precious "$bundle/rootfs"
mount -t tmpfs tmpfs /srv/upper
mkdir /srv/upper/u /srv/upper/w
mount -t overlay -o lowerdir=/srv/other/rootfs,upperdir=/srv/upper/u,workdir=/srv/upper/w overlay "$bundle/rootfs"
touch -d '1 minute ago' "$bundle"
`

// What an interrupted start left is mended by the installed unit, whose sandbox
// has mounts of its own: agentd-mend@.service does it on the machine itself.
//
// conformance: E6
func TestMend(t *testing.T) {
	r, seen := newRing(t, "n1")
	m := r.Machine("n1")
	r.run(m, "sh", "-c", leftover, "sh", "torn")
	r.must(m.Apply(r.ctx, testd("torn", "")))
	torn := r.one(m, "torn")

	// The one mount in the bundle is its own root file system's.
	mounts := 0
	for line := range strings.Lines(r.run(m, "cat", "/proc/1/mountinfo")) {
		if strings.Contains(line, "/agentd/torn/rootfs ") {
			mounts++
		}
	}
	if mounts != 1 {
		t.Errorf("%d mounts in the bundle", mounts)
	}
	if got := r.run(m, "cat", "/srv/precious/file"); strings.TrimSpace(got) != "keep" {
		t.Errorf("what was mounted in the bundle: %q", got)
	}
	if n := strings.Count(r.run(m, "ps", "-eo", "args"), "/testd"); n != 1 {
		t.Errorf("%d processes of the daemon, container %+v", n, torn)
	}
	if log := m.Journal(r.ctx, bundle.Unit("/run/containerd/"+bundle.Part+"/agentd/torn"), 20); !strings.Contains(log, "Finished") {
		t.Errorf("agentd-mend@.service did not do it: %q", log)
	}
	// Nothing failed on the way that would have come right by itself.
	if failed := r.run(m, "systemctl", "list-units", "--failed", "--no-legend", "agentd*"); failed != "" {
		t.Errorf("failed: %s", failed)
	}
	r.same(seen, "n1")
}
