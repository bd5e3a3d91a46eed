package logger

import (
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// strayLimit is how long processes that outlived their container may still
	// write, once containerd waits for the logger.
	strayLimit = time.Second
	// endLimit is how long a sink may take for what is left at the end; the
	// container's removal waits for it. endFailing holds for a sink that fails
	// already.
	endLimit   = 2 * time.Second
	endFailing = 300 * time.Millisecond
)

// Config is one logger's work.
type Config struct {
	Options Options
	// Stdout and Stderr are read to their end, which comes when nobody can write
	// any more. Close has to end a Read.
	Stdout, Stderr io.ReadCloser
	// Ready is called as soon as output is read; containerd starts the container
	// then.
	Ready func()
	// Released gets a value when containerd has closed its ends of the pipes.
	Released <-chan struct{}
}

// Run reads both streams to their end and writes them to the sink. It returns
// when everything is written or given up; it fails at nothing else. With
// options that make no sense it reads and drops, because a container may not
// block for them either.
func Run(cfg Config) error {
	o := cfg.Options.filled()
	err := o.check()
	var s sink = nowhere{}
	switch {
	case err != nil:
	case o.Sink == SinkFile:
		s = newFileSink(o)
	default:
		s = newJournalSink(o)
	}
	return errors.Join(err, run(cfg, o, s))
}

func run(cfg Config, o Options, s sink) error {
	q := newIntake(newBucket(o.Rate, o.Burst, time.Now()))
	w := newWriter(q, s, o.Rate)
	var readers sync.WaitGroup
	readers.Go(func() { read(cfg.Stdout, Stdout, q) })
	readers.Go(func() { read(cfg.Stderr, Stderr, q) })
	if cfg.Ready != nil {
		cfg.Ready()
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		readers.Wait()
	}()
	go w.run()
	await(cfg, read)

	close(w.ended)
	limit := endLimit
	if w.failing.Load() {
		limit = endFailing
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-w.done:
		return w.gaveUp
	case <-t.C:
	}
	close(w.giveUp)
	t.Reset(endFailing)
	select {
	case <-w.done:
		return w.gaveUp
	case <-t.C:
		// It hangs in the kernel. Nobody but us is left to wait for.
		return errors.New("the sink hangs")
	}
}

// await returns when both streams were read, or when nobody but strays could
// write any more.
func await(cfg Config, read <-chan struct{}) {
	var limit <-chan time.Time
	for {
		select {
		case <-read:
			return
		case <-cfg.Released:
			if limit == nil {
				limit = time.After(strayLimit)
			}
		case <-limit:
			_ = cfg.Stdout.Close()
			_ = cfg.Stderr.Close()
			<-read
			return
		}
	}
}

// read takes one stream in, to its end.
func read(r io.Reader, stream Stream, q *intake) {
	var s splitter
	var now time.Time
	emit := func(text []byte, partial bool) {
		q.put(Line{Time: now, Stream: stream, Partial: partial, Text: text})
	}
	for {
		n, err := r.Read(s.space())
		now = time.Now()
		if n > 0 {
			s.take(n, emit)
		}
		if err != nil {
			s.end(emit)
			return
		}
	}
}

// sink is where lines end up.
type sink interface {
	// write writes a batch of records and returns how much of it, in whole
	// records, it took over; less than all only with an error. What it did not
	// take is offered again. It may take long, but never for ever.
	write(batch []byte) (int, error)
	close()
}

// nowhere drops everything.
type nowhere struct{}

func (nowhere) write(batch []byte) (int, error) { return len(batch), nil }
func (nowhere) close()                          {}
