package main

import (
	"context"
	"log/slog"
	"os"

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
