package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// copyName is a second file with all that was committed at some moment: a file that is cut short takes everything in it along, and a node
// that is cut off cannot read it again.
const copyName = "cache.copy"

// Copy writes all that is committed into a file of its own, from which a damaged cache is made anew. It does nothing if
// nothing was committed since the last copy, and costs the whole file's size and two flushes else: ask for it rarely.
func (c *Cache) Copy(ctx context.Context) error {
	c.copying.Lock()
	defer c.copying.Unlock()
	c.mu.RLock()
	db := c.db
	c.mu.RUnlock()
	if db == nil {
		return fmt.Errorf("copy %s: there is no file to copy", c.path)
	}
	path := filepath.Join(filepath.Dir(c.path), copyName)
	err := bolt.Guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if int64(tx.ID()) == c.copied.Load() || ctx.Err() != nil {
				return ctx.Err()
			}
			if err := writeCopy(tx, path+".new"); err != nil {
				os.Remove(path + ".new") // make room again
				return err
			}
			if err := os.Rename(path+".new", path); err != nil {
				return err
			}
			c.copied.Store(int64(tx.ID()))
			return durable.SyncDir(filepath.Dir(path))
		})
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", c.path, err)
	}
	return nil
}

func writeCopy(tx *bbolt.Tx, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(f)
	return errors.Join(err, f.Sync(), f.Close())
}

// forgetCopy removes the copy, because it holds what somebody may not see any more.
func (c *Cache) forgetCopy() {
	c.copying.Lock()
	defer c.copying.Unlock()
	c.copied.Store(0)
	os.Remove(filepath.Join(filepath.Dir(c.path), copyName))
}
