package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sync/errgroup"

	"github.com/agentd/agentd/e2e/lab"
)

// bare is the floor: containerd's own client and nothing else. It does what has
// to be done for a container, with no thought for what may go wrong.
type bare struct {
	client *containerd.Client
	image  containerd.Image
}

func newBare(ctx context.Context, address, namespace string) (*bare, error) {
	client, err := containerd.New(address, containerd.WithDefaultNamespace(namespace))
	if err != nil {
		return nil, err
	}
	image, err := client.GetImage(namespaces.WithNamespace(ctx, namespace), lab.TestImageRef)
	if err != nil {
		return nil, err
	}
	return &bare{client: client, image: image}, nil
}

// start makes and starts one container and returns what it is known by.
func (b *bare) start(ctx context.Context, id string) (containerd.Task, error) {
	c, err := b.client.NewContainer(ctx, id,
		containerd.WithNewSnapshot("bare-"+id, b.image),
		containerd.WithNewSpec(oci.WithImageConfig(b.image), oci.WithHostNamespace("network")))
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", id, err)
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return nil, fmt.Errorf("make the task of %s: %w", id, err)
	}
	return task, task.Start(ctx)
}

// end deletes what has ended, or is ended here.
func (b *bare) end(ctx context.Context, id string, task containerd.Task) error {
	if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
		return fmt.Errorf("delete the task of %s: %w", id, err)
	}
	c, err := b.client.LoadContainer(ctx, id)
	if err != nil {
		return err
	}
	return c.Delete(ctx, containerd.WithSnapshotCleanup)
}

// many starts so many, four at a time: more at once gain nothing.
func (b *bare) many(ctx context.Context, n int) (time.Duration, error) {
	tasks := make([]containerd.Task, n)
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range n {
		g.Go(func() (err error) {
			tasks[i], err = b.start(gctx, fmt.Sprintf("bare-%d", i))
			return err
		})
	}
	err := g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	for i, t := range tasks {
		if err := b.end(ctx, fmt.Sprintf("bare-%d", i), t); err != nil {
			return 0, err
		}
	}
	return took, nil
}

// again kills a container and starts it anew: kill, delete, create, start.
func (b *bare) again(ctx context.Context) (time.Duration, error) {
	const id = "bare"
	task, err := b.start(ctx, id)
	if err != nil {
		return 0, err
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(int(task.Pid()), syscall.SIGKILL); err != nil {
		return 0, err
	}
	<-exit
	if err := b.end(ctx, id, task); err != nil {
		return 0, err
	}
	if task, err = b.start(ctx, id); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, b.end(ctx, id, task)
}
