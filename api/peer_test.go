package api_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd/agentd/api"
	"github.com/agentd/agentd/e2e/lab"
)

// backend answers Info and Leave; the test asks for nothing else.
type backend struct{ api.Backend }

func (backend) Info(context.Context) (api.Info, error) { return api.Info{Node: "web-1"}, nil }
func (backend) Leave(context.Context) (api.LeaveReport, error) {
	return api.LeaveReport{}, nil
}
func (backend) Metrics(io.Writer) {}

// askAs is what the process that runs as another user does: the test binary
// starts itself again with the socket's path here.
const askAs = "AGENTD_API_TEST_ASK"

func TestMain(m *testing.M) {
	if socket := os.Getenv(askAs); socket != "" {
		c := api.NewClient(socket)
		_, infoErr := c.Info(context.Background())
		_, leaveErr := c.Leave(context.Background())
		fmt.Printf("info: %v\nleave: %v\n", infoErr, leaveErr)
		return
	}
	os.Exit(m.Run())
}

// The rights of real processes of other users, by the kernel's word.
func TestRightsOfOtherUsers(t *testing.T) {
	lab.Require(t, "root")
	group, err := user.LookupGroup("mail") // any group that every system has
	if err != nil {
		t.Skip("this system has no group mail")
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agentd-api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self := copyOfTest(t, dir)
	socket := filepath.Join(dir, "agentd.sock")
	srv := api.NewServer(api.ServerConfig{Socket: socket, Group: "mail", Backend: backend{}})
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != uint32(gid) {
		t.Fatalf("socket %v: %v", info.Mode(), err)
	}
	many := []uint32{uint32(gid)}
	for i := range 200 { // more groups than the first guess holds
		many = append(many, uint32(90000+i))
	}
	cases := []struct {
		who         string
		uid, gid    uint32
		groups      []uint32
		info, leave string
	}{
		{"root", 0, 0, nil, "<nil>", "<nil>"},
		{"a member of the group", 65534, 65534, []uint32{uint32(gid)}, "<nil>", "only root"},
		{"a member of many groups", 65534, 65534, many, "<nil>", "only root"},
		{"one whose primary group it is", 65534, uint32(gid), nil, "<nil>", "only root"},
		{"a stranger", 65534, 65534, nil, "permission denied", "permission denied"},
	}
	ask := func(t *testing.T, uid, gid uint32, groups []uint32) (info, leave string) {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Dir = dir
		cmd.Env = []string{askAs + "=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		info, leave, _ = strings.Cut(string(out), "leave: ")
		return info, leave
	}
	for _, c := range cases {
		t.Run(c.who, func(t *testing.T) {
			if info, leave := ask(t, c.uid, c.gid, c.groups); !strings.Contains(info, c.info) || !strings.Contains(leave, c.leave) {
				t.Errorf("info: %s leave: %s", info, leave)
			}
		})
	}
	// Even with the socket open to all, a stranger is turned away.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if info, _ := ask(t, 65534, 65534, nil); !strings.Contains(info, "may not use") {
		t.Errorf("a stranger at an open socket: %s", info)
	}
}

// copyOfTest puts the test binary where any user can run it.
func copyOfTest(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "api.test")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
