package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
)

type reasonError string

func (e reasonError) Error() string        { return "no answer" }
func (e reasonError) StableReason() string { return string(e) }

func root(e *cli.Env) *cobra.Command {
	r := &cobra.Command{Use: "prog", Short: "A program"}
	fail := func(name string, err error) *cobra.Command {
		return &cobra.Command{Use: name, Short: name, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return err }}
	}
	r.AddCommand(
		fail("fine", nil),
		fail("wrong", errors.New("node a has no architecture")),
		fail("shown", cli.Shown(errors.New("already said"))),
		fail("offline", cli.Unreachable(errors.New("dial git.example.com: refused"))),
		fail("source", fmt.Errorf("poll: %w", reasonError("Unreachable"))),
		fail("large", fmt.Errorf("poll: %w", reasonError("TooLarge"))),
	)
	return r
}

func run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	env := &cli.Env{Out: &o, Err: &e, Getenv: func(string) string { return "" }}
	code = cli.Run(t.Context(), env, root, args)
	return code, o.String(), e.String()
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		err  string
	}{
		{"fine", 0, ""},
		{"wrong", 1, "prog wrong: node a has no architecture\n"},
		{"shown", 1, ""},
		{"offline", 3, "prog offline: dial git.example.com: refused\n"},
		{"source", 3, "prog source: poll: no answer\n"},
		{"large", 1, "prog large: poll: no answer\n"},
		{"fine --nope", 2, "prog fine: unknown flag: --nope\nRun 'prog fine --help' for how to use it.\n"},
		{"fine extra", 2, "prog fine: unknown command \"extra\" for \"prog fine\"\nRun 'prog fine --help' for how to use it.\n"},
		{"wrnog", 2, "prog: unknown command \"wrnog\"; did you mean \"wrong\"?\nRun 'prog --help' for how to use it.\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, _, errs := run(t, strings.Fields(c.args)...)
			if code != c.code || errs != c.err {
				t.Fatalf("code %d, stderr %q; want %d, %q", code, errs, c.code, c.err)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	if code, out, _ := run(t, "--version"); code != 0 || out != "prog "+cli.Version+"\n" {
		t.Fatalf("code %d, %q", code, out)
	}
	if code, out, _ := run(t); code != 0 || !strings.Contains(out, "offline") {
		t.Fatalf("code %d, %q", code, out)
	}
}

func TestManPagesAndCompletion(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := run(t, "man", dir); code != 0 {
		t.Fatal(errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "prog-wrong.1")); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := run(t, "completion", "bash"); code != 0 || !strings.Contains(out, "__start_prog") {
		t.Fatalf("code %d", code)
	}
}

func TestProgressStaysSilentForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e bytes.Buffer
		env := &cli.Env{Err: &e, Getenv: func(string) string { return "" }}
		p := env.Progress("evaluating")
		time.Sleep(999 * time.Millisecond) // the bubble's clock, not the wall's
		synctest.Wait()
		if e.Len() != 0 {
			t.Fatalf("showed %q before a second was over", e.String())
		}
		p.Set("evaluating %d of %d pools", 3, 9)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		p.Stop()
		if got, want := e.String(), "evaluating 3 of 9 pools … 1s\n"; got != want {
			t.Fatalf("showed %q, want %q", got, want)
		}
	})
}
