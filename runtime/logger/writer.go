package logger

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// noteEvery is how often dropped lines are told of, at most.
	noteEvery = 5 * time.Second
	// A failing sink is tried again after retryFirst, doubling up to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Second
)

// writer takes lines out of the intake and hands them to the sink.
type writer struct {
	q       *intake
	sink    sink
	rate    int
	ended   chan struct{} // closed by the owner: no more lines will come
	giveUp  chan struct{} // closed by the owner: drop what is not written
	done    chan struct{} // closed by run
	gaveUp  error         // set before done is closed
	failing atomic.Bool

	batch []byte    // what is being written
	noted time.Time // when dropped lines were told of, or found
	cause error     // why the sink failed last, since then
}

func newWriter(q *intake, s sink, rate int) *writer {
	return &writer{
		q: q, sink: s, rate: rate, batch: make([]byte, 0, intakeSize),
		ended: make(chan struct{}), giveUp: make(chan struct{}), done: make(chan struct{}),
	}
}

// run ends after ended was closed and everything was written, or giveUp was.
func (w *writer) run() {
	defer close(w.done)
	defer w.sink.close()
	timer := time.NewTimer(noteEvery)
	defer timer.Stop()
	for {
		w.batch = w.q.take(w.batch)
		if len(w.batch) > 0 && !w.deliver(w.batch) {
			return
		}
		ended := closed(w.ended)
		lines, dropped := w.q.waiting()
		var tick <-chan time.Time
		switch {
		case !dropped:
			w.noted = time.Time{}
		case w.noted.IsZero() && !ended:
			w.noted = time.Now()
			fallthrough
		default:
			left := noteEvery - time.Since(w.noted)
			if left <= 0 || ended && !lines {
				if !w.tell() {
					return
				}
				continue
			}
			timer.Reset(left)
			tick = timer.C
		}
		if lines {
			continue
		}
		if ended {
			return
		}
		select {
		case <-w.q.wake:
		case <-w.ended:
		case <-tick:
		}
	}
}

// tell writes about dropped lines into the log itself.
func (w *writer) tell() bool {
	suppressed, lost := w.q.tell()
	w.noted = time.Time{}
	var b []byte
	if suppressed > 0 {
		b = w.note(b, "suppressed "+count(suppressed)+": more than "+strconv.Itoa(w.rate)+" per second")
	}
	if lost > 0 {
		why := "the log took them too slowly"
		if w.cause != nil {
			why = w.cause.Error()
		}
		b = w.note(b, "lost "+count(lost)+": "+why)
		w.cause = nil
	}
	return w.deliver(b)
}

func (w *writer) note(b []byte, text string) []byte {
	return appendFlagged(b, time.Now(), flagStderr|flagNote, []byte(Program+": "+text))
}

func count(n uint64) string {
	if n == 1 {
		return "1 line"
	}
	return strconv.FormatUint(n, 10) + " lines"
}

// deliver hands records to the sink until it has taken them; false when that
// was given up.
func (w *writer) deliver(b []byte) bool {
	retry := retryFirst
	for len(b) > 0 {
		n, err := w.write(b)
		b = b[n:]
		w.failing.Store(err != nil)
		if err == nil {
			continue
		}
		w.cause = err
		if n > 0 {
			retry = retryFirst
		}
		t := time.NewTimer(retry)
		select {
		case <-t.C:
		case <-w.giveUp:
			t.Stop()
			w.gaveUp = err
			return false
		}
		retry = min(2*retry, retryMost)
	}
	return true
}

// write keeps the logger alive whatever is wrong with a sink: a container whose
// pipes nobody reads dies of it, or hangs.
func (w *writer) write(b []byte) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = len(b), fmt.Errorf("panic in the sink: %v", p)
		}
	}()
	return w.sink.write(b)
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
