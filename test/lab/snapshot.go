package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// SaveEtcd stops kube-apiserver and etcd, keeps a copy of etcd's data for RestoreEtcd, and starts both again.
func (l *Lab) SaveEtcd(ctx context.Context) error {
	return l.withoutEtcd(ctx, func(data, saved string) error {
		if err := os.RemoveAll(saved); err != nil {
			return err
		}
		return os.CopyFS(saved, os.DirFS(data))
	})
}

// RestoreEtcd brings the data of SaveEtcd back, as an operator does with an old snapshot: objects and resourceVersions are those of then.
func (l *Lab) RestoreEtcd(ctx context.Context) error {
	return l.withoutEtcd(ctx, func(data, saved string) error {
		if _, err := os.Stat(saved); err != nil {
			return fmt.Errorf("there is no saved etcd: call SaveEtcd first: %w", err)
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.CopyFS(data, os.DirFS(saved))
	})
}

func (l *Lab) withoutEtcd(ctx context.Context, f func(data, saved string) error) error {
	if err := errors.Join(l.StopAPIServer(), l.procs.stop("etcd")); err != nil {
		return err
	}
	if err := f(filepath.Join(l.Dir, "etcd"), filepath.Join(l.Dir, "etcd.saved")); err != nil {
		return err
	}
	if err := l.startEtcd(ctx); err != nil {
		return err
	}
	return l.StartAPIServer(ctx)
}
