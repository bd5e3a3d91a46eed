package main

import (
	"context"
	"log/slog"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/agentd/agentd/agent"
)

// manager is systemd, where it runs this process as a service.
func manager(log *slog.Logger) agent.Service {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return agent.Service{}
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not fed", "err", err)
	}
	return agent.Service{
		Watchdog: watchdog,
		Notify: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		},
	}
}

// passedSocket is the API's socket, where a socket unit made it (sd_listen_fds(3)).
func passedSocket(log *slog.Logger) *net.UnixListener {
	listeners, err := activation.Listeners()
	if err != nil {
		log.Warn("systemd's sockets can't be taken", "err", err)
	}
	var socket *net.UnixListener
	for _, l := range listeners {
		if u, ok := l.(*net.UnixListener); ok && socket == nil {
			socket = u
			continue
		}
		log.Warn("a socket that systemd passed is of no use here; agentd.socket has one ListenStream= with a path")
		if l != nil {
			_ = l.Close()
		}
	}
	return socket
}

// reloadOn reloads at each signal. The function that it returns ends that.
func reloadOn(hangup <-chan os.Signal, a *agent.Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				_, _ = a.Reload(ctx) // it tells the log, the status and systemd
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
