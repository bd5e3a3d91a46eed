package main

import (
	"context"
	"time"

	"github.com/agentd/agentd/api"
)

func (f *fakeRing) Logs(context.Context, api.LogQuery, func(api.LogLine) error) error { return nil }
func (f *fakeRing) Exec(context.Context, string, api.ExecRequest, api.ExecStreams) (int, error) {
	return 0, nil
}
func (f *fakeRing) Restart(context.Context, string) error { return nil }
func (f *fakeRing) Events(context.Context, time.Time, bool, func(api.Event) error) error {
	return nil
}
func (f *fakeRing) Top(context.Context) (api.Top, error)         { return api.Top{}, nil }
func (f *fakeRing) Volumes(context.Context) (api.Volumes, error) { return api.Volumes{}, nil }
func (f *fakeRing) PruneVolumes(context.Context, []string) (api.Pruned, error) {
	return api.Pruned{}, nil
}
