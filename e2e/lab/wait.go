package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Poll is how often Until looks.
const Poll = 25 * time.Millisecond

// Until calls cond until it returns nil, and returns nil then. When ctx ends
// first it returns cond's last error, which should tell what is missing.
func Until(ctx context.Context, cond func(ctx context.Context) error) error {
	var last error
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		// Being cut off by ctx tells less than what was seen before.
		if last == nil || ctx.Err() == nil || !errors.Is(err, context.Cause(ctx)) {
			last = err
		}
		if Pause(ctx, Poll) != nil {
			return fmt.Errorf("gave up waiting: %w", last)
		}
	}
}

// Within is Until with a time limit.
func Within(ctx context.Context, limit time.Duration, cond func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := Until(ctx, cond); err != nil {
		return fmt.Errorf("after %v: %w", limit, err)
	}
	return nil
}

// Pause waits for d, or returns ctx's error when that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
