package api

import (
	"context"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// right is what a caller may do; each includes those before it.
type right int

const (
	rightNone  right = iota // nothing but being told so
	rightRead               // status, nodes, why, events, records; and bringing a signed record
	rightAdmin              // leave, rejoin; logs, exec, restart
)

// caller is the process at the other end of the socket, by the kernel's word.
type caller struct {
	known  bool
	uid    int
	gid    int
	groups []int
}

// rights decides what c may do: root and the user that agentd runs as may do
// everything, the socket's group may read.
func (c caller) rights(agentUID, socketGID int) right {
	switch {
	case !c.known:
		return rightNone
	case c.uid == 0 || c.uid == agentUID:
		return rightAdmin
	case socketGID >= 0 && (c.gid == socketGID || slices.Contains(c.groups, socketGID)):
		return rightRead
	}
	return rightNone
}

type callerKey struct{}

// connContext puts the caller's rights into each request's context.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	c, err := peerOf(u)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// peerOf asks the kernel who is at the other end: SO_PEERCRED for user and
// group, SO_PEERGROUPS (Linux 4.13) for the supplementary groups, as they were
// when the connection was made.
func peerOf(u *net.UnixConn) (caller, error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var c caller
	var credErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if credErr != nil {
			return
		}
		c = caller{known: true, uid: int(cred.Uid), gid: int(cred.Gid)}
		// Without the list (an older kernel) the primary group still counts.
		c.groups, _ = peerGroups(int(fd))
	})
	if err != nil {
		return caller{}, err
	}
	return c, credErr
}

func peerGroups(fd int) ([]int, error) {
	// 64 is more than most processes have; the kernel tells when it is not enough.
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		n := int(size / 4)
		if errno == unix.ERANGE && n > len(groups) {
			groups = make([]uint32, n)
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		list := make([]int, 0, n)
		for _, g := range groups[:n] {
			list = append(list, int(g))
		}
		return list, nil
	}
}
