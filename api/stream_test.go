package api

import (
	"context"
	"time"
)

func (s *stub) Logs(context.Context, LogQuery, func(LogLine) error) error { return s.err }
func (s *stub) Exec(context.Context, string, ExecRequest, ExecStreams) (int, error) {
	return 0, s.err
}
func (s *stub) Restart(context.Context, string) error { return s.err }
func (s *stub) Events(context.Context, time.Time, bool, func(Event) error) error {
	return s.err
}
func (s *stub) Top(context.Context) (Top, error)         { return Top{Schema: Schema}, s.err }
func (s *stub) Volumes(context.Context) (Volumes, error) { return Volumes{Schema: Schema}, s.err }
func (s *stub) PruneVolumes(context.Context, []string) (Pruned, error) {
	return Pruned{Schema: Schema}, s.err
}
