package logger

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sendLimit is how long one entry may wait for journald, in milliseconds; the
// writer tries again afterwards.
const sendLimit = 200

// journalSink sends each line to journald in its native protocol: one datagram
// of KEY=value lines (systemd.io/JOURNAL_NATIVE_PROTOCOL).
type journalSink struct {
	socket string
	fd     int    // -1: has to be opened
	fields []byte // the same in every entry
	out    []byte
}

func newJournalSink(o Options) *journalSink {
	s := &journalSink{socket: o.Socket, fd: -1, out: make([]byte, 0, maxLine+1024)}
	for _, f := range [][2]string{
		{"SYSLOG_IDENTIFIER", o.Daemon}, // journalctl -t NAME
		{"AGENTD_DAEMON", o.Daemon},
		{"CONTAINER_NAME", o.Container},
		{"AGENTD_NAMESPACE", o.Namespace},
	} {
		if f[1] != "" {
			s.fields = append(s.fields, f[0]+"="+f[1]+"\n"...)
		}
	}
	return s
}

// The syslog priorities of what a container says, as Docker's journald driver
// has them, and of what the logger says itself.
const (
	priorityStdout = "PRIORITY=6\n" // info
	priorityStderr = "PRIORITY=3\n" // err
	priorityNote   = "PRIORITY=4\n" // warning
)

// write implements sink.
func (s *journalSink) write(batch []byte) (int, error) {
	n := 0
	for n < len(batch) {
		l, note, size := record(batch[n:])
		s.out = append(s.out[:0], s.fields...)
		switch {
		case note:
			s.out = append(s.out, priorityNote...)
		case l.Stream == Stderr:
			s.out = append(s.out, priorityStderr...)
		default:
			s.out = append(s.out, priorityStdout...)
		}
		if l.Partial {
			s.out = append(s.out, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
		}
		s.out = append(s.out, "MESSAGE="...)
		s.out = append(s.out, l.Text...) // without a newline, so any bytes may stand here
		s.out = append(s.out, '\n')
		if err := s.send(); err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// send sends one entry, or says why it cannot now.
func (s *journalSink) send() error {
	if err := s.open(); err != nil {
		return err
	}
	for {
		_, err := unix.Write(s.fd, s.out)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EMSGSIZE):
			return nil // journald would not take it at any time
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS):
			// Restarted, perhaps: the socket may be another one now.
			s.close()
			return fmt.Errorf("write to journald: %w", err)
		}
		p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
		if n, perr := unix.Poll(p, sendLimit); n == 0 || perr != nil && !errors.Is(perr, unix.EINTR) {
			return errors.New("journald does not read")
		}
	}
}

func (s *journalSink) open() error {
	if s.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: s.socket}); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("connect to journald at %s: %w", s.socket, err)
	}
	s.fd = fd
	return nil
}

// close implements sink.
func (s *journalSink) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}
