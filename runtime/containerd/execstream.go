package containerd

import (
	"context"
	"errors"

	"github.com/agentd/agentd/runtime"
)

// ExecStream implements runtime.Runtime.
func (r *Runtime) ExecStream(context.Context, string, runtime.ExecOptions) (int, error) {
	return 0, errors.New("exec with streams: not there yet")
}
