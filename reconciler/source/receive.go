package source

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// receive asks for a pack, reads it into a temporary file, and installs it if everything it points to is there.
func (f *fetcher) receive(ctx context.Context, want []string, done *Fetched) (err error) {
	size, err := pack.Size(f.objects)
	if err != nil {
		return err
	}
	r, err := parseRemote(f.cfg.URL)
	if err != nil {
		return err
	}
	server, err := newServer(f.cfg, r)
	if err != nil {
		return err
	}
	body, err := server.pack(ctx, want, f.have)
	if err != nil {
		return err
	}
	defer body.Close() // the answer was read to its end, or is of no use
	file, err := pack.Temp(f.objects)
	if err != nil {
		return storing("store the pack", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // or the next fetch does
		}
		err = errors.Join(err, file.Close())
	}()
	lim := f.cfg.Limits
	got, err := pack.Receive(ctx, body, file, pack.Bounds{
		Bytes: lim.RepoBytes - size, ObjectBytes: lim.ObjectBytes, InflatedBytes: lim.InflatedBytes, Objects: lim.Objects,
	})
	if errors.Is(err, pack.ErrNoRoom) && size > 0 {
		return errOutgrown
	}
	if err != nil {
		return f.explain(err)
	}
	done.Objects, done.Bytes = got.Len(), got.Bytes()
	if err := f.connected(want, got); err != nil {
		return err
	}
	if err := pack.Install(f.objects, file, got); err != nil {
		return storing("store the pack", err)
	}
	if err := f.store.Close(); err != nil {
		return err
	}
	f.store, err = pack.OpenStore(lim.ObjectBytes, f.objects)
	return err
}

// explain gives an error of receiving its reason.
func (f *fetcher) explain(err error) error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, pack.ErrTooLarge):
		return fail(condition.ReasonTooLarge, "%s: %w", f.cfg.URL, err)
	case errors.Is(err, pack.ErrInvalid), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(condition.ReasonProtocolError, "%s: %w", f.cfg.URL, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(condition.ReasonUnreachable, "%s: the fetch takes longer than %s", f.cfg.URL, f.cfg.Limits.FetchTimeout)
	}
	return storing("store the pack", err)
}

// connected makes sure that everything the new objects point to is in the pack or in the clone. As no pack enters
// otherwise, this holds for every object of the clone, and nothing needs to be walked.
func (f *fetcher) connected(want []string, got *pack.Received) error {
	for _, text := range want {
		id, err := pack.ParseID(text)
		if err != nil {
			return err
		}
		if _, ok := got.Kind(id); !ok {
			return fail(condition.ReasonProtocolError, "%s offers %s but does not send it", f.cfg.URL, text)
		}
	}
	for _, id := range got.Needs {
		ok, err := f.store.Has(id)
		if err != nil {
			return err
		}
		if !ok {
			return fail(condition.ReasonProtocolError, "%s sends objects that need %s but not that one: its repository is damaged or shallow", f.cfg.URL, id)
		}
	}
	return nil
}
