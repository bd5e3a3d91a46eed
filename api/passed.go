package api

import (
	"fmt"
	"net"
)

// adopt takes a socket that the service manager made and passed on. Its path,
// mode and owner are the manager's: they are left as they are, at the end too, so
// that clients can wait for the next agentd on it. warning tells what does not
// fit together.
func adopt(l *net.UnixListener, path, group string) (s *socket, warning string) {
	s = &socket{UnixListener: l, path: path, gid: -1}
	l.SetUnlinkOnClose(false)
	if at := l.Addr().String(); at != path {
		warning = fmt.Sprintf("it listens on %s, which the service manager passed on, and not on %s of [api] socket", at, path)
		s.path = at
	}
	if group == "" {
		return s, warning
	}
	gid, ok := groupID(group)
	if !ok {
		return s, fmt.Sprintf("group %q does not exist; make it with: groupadd --system %s", group, group)
	}
	s.gid = gid
	return s, warning
}
