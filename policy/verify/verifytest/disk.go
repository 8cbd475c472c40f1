package verifytest

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"os"
	"path/filepath"
)

// initBare makes the folders of a bare repository that git can serve and push to.
func (r *Repo) initBare() {
	r.tb.Helper()
	for _, d := range []string{"hooks", "objects/info", "objects/pack", "refs/heads", "refs/notes", "refs/tags"} {
		check(r.tb, os.MkdirAll(filepath.Join(r.Dir, d), 0o755))
	}
	for name, content := range map[string]string{
		"HEAD":                 "ref: refs/heads/" + Branch + "\n",
		"config":               "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[http]\n\treceivepack = true\n[uploadpack]\n\tallowFilter = true\n",
		"git-daemon-export-ok": "",
		"description":          "fleet repo of a test\n",
	} {
		check(r.tb, writeFile(filepath.Join(r.Dir, name), []byte(content)))
	}
}

func (r *Repo) writeLoose(id, kind string, raw []byte) {
	r.tb.Helper()
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	check(r.tb, err)
	fmt.Fprintf(w, "%s %d\x00", kind, len(raw))
	_, err = w.Write(raw)
	check(r.tb, err)
	check(r.tb, w.Close())
	dir := filepath.Join(r.Dir, "objects", id[:2])
	check(r.tb, os.MkdirAll(dir, 0o755))
	check(r.tb, writeFile(filepath.Join(dir, id[2:]), b.Bytes()))
}

// writeFile replaces a file in one step, so that a reader of the repository never sees half of it.
func writeFile(name string, data []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
