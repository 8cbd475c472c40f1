package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// story tells what the demo does, as it does it: a heading for each step, each command as one would type it, what it printed,
// and every claim once it has been checked.
type story struct {
	out   io.Writer
	color bool
	steps int
	began time.Time
	// env is what the commands need beyond this process's environment.
	env []string
}

func newStory(out *os.File) *story {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &story{out: out, color: terminal && os.Getenv("NO_COLOR") == "", began: time.Now()}
}

// step begins a step.
func (s *story) step(title string) {
	s.steps++
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1", fmt.Sprintf("── %d. %s", s.steps, title)))
}

// say explains.
func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", fmt.Sprintf(format, args...))
}

// shown marks a claim that was checked and holds.
func (s *story) shown(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s %s\n", s.paint("32", "✓"), fmt.Sprintf(format, args...))
}

func (s *story) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// run runs a command in dir, shows it with what it prints, and gives that.
func (s *story) run(ctx context.Context, dir string, argv ...string) (string, error) {
	fmt.Fprintf(s.out, "   %s\n", s.paint("36", "$ "+quote(argv)))
	out, err := s.quiet(ctx, dir, argv...)
	for line := range strings.Lines(out) {
		fmt.Fprintf(s.out, "     %s\n", strings.TrimRight(line, "\n"))
	}
	return out, err
}

// refused runs a command that must not succeed, shows it, and checks that it says why.
func (s *story) refused(ctx context.Context, dir, why string, argv ...string) error {
	out, err := s.run(ctx, dir, argv...)
	if err == nil {
		return fmt.Errorf("%s succeeded, and should have been refused", quote(argv))
	}
	if !strings.Contains(out, why) {
		return fmt.Errorf("%s was refused, but did not say %q", quote(argv), why)
	}
	return nil
}

// quiet runs a command without showing it. It gives what the command wrote to standard output and standard error.
func (s *story) quiet(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), s.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", quote(argv), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// eventually waits until a claim holds, and then shows it. Its error is what the claim last said.
func (s *story) eventually(ctx context.Context, claim string, check func(context.Context) error) error {
	const limit = 60 * time.Second
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			s.shown("%s (after %s)", claim, time.Since(began).Round(100*time.Millisecond))
			return nil
		}
		if ctx.Err() == nil || last == nil { // a check that time cut short says nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s: %w", limit, claim, last)
		case <-tick.C:
		}
	}
}

// quote writes a command as one would type it.
func quote(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = word
		if word == "" || strings.ContainsAny(word, " \t\n'\"\\$&|;<>()*?[]{}~#!") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
