package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Status is what `holdfast-agent status` shows.
type Status struct {
	Node  string `json:"node"`
	Fleet string `json:"fleet"`
	Pool  string `json:"pool,omitempty"`
	// Running: the agent answered. If not, what follows is what it stored last.
	Running bool   `json:"running"`
	Version string `json:"version,omitempty"`
	URL     string `json:"url"`
	Branch  string `json:"branch"`
	Anchor  string `json:"anchor"`
	// Standalone: enrolled without a kubeconfig.
	Standalone bool `json:"standalone,omitempty"`
	// Revision is the newest accepted revision, and Made when it was committed.
	Revision string    `json:"revision"`
	Made     time.Time `json:"made"`
	// PlanDigest is the plan in force, and PlanRevision the revision that it comes from.
	PlanDigest   string                `json:"planDigest,omitempty"`
	PlanRevision string                `json:"planRevision,omitempty"`
	Conditions   []condition.Condition `json:"conditions,omitempty"`
	// Rejected are revisions that did not come into force, newest first.
	Rejected []store.Rejected `json:"rejected,omitempty"`
	// Problem is what is wrong with the stored state, if something is.
	Problem string `json:"problem,omitempty"`
}

func (a *Agent) status() Status {
	report, reported := a.board.latest()
	s := statusOf(a.store.Contents())
	s.Running, s.Version = true, a.opt.Version
	s.Conditions = report.Conditions
	if reported.Type != "" {
		s.Conditions = append(s.Conditions[:len(s.Conditions):len(s.Conditions)], reported)
	}
	return s
}

func statusOf(c store.Contents) Status {
	s := Status{
		Node: c.Enrolment.Node, Fleet: c.Trust.Fleet, Pool: c.Enrolment.Pool,
		URL: c.Enrolment.URL, Branch: c.Enrolment.Branch, Anchor: c.Trust.Anchor, Standalone: c.Enrolment.Standalone,
		Revision: c.Trust.Accepted, Made: time.Unix(c.Trust.Floor, 0).UTC(),
		Version: c.Report.AgentVersion, Conditions: c.Report.Conditions, Rejected: c.Rejected,
	}
	if c.InForce != nil {
		s.Pool, s.PlanDigest, s.PlanRevision = c.InForce.Plan.Pool, c.InForce.Digest, c.InForce.Revision
	}
	return s
}

// ReadStatus asks the agent of a state folder, or reads what it stored if it does not run.
func ReadStatus(ctx context.Context, state string) (Status, error) {
	s, err := Control{State: state}.Status(ctx)
	if !errors.Is(err, ErrNotRunning) {
		return s, err
	}
	c, err := store.Read(state)
	switch {
	case errors.Is(err, store.ErrInUse):
		return Status{}, fmt.Errorf("%w, but the state is in use: an enroll or unenroll is under way, or the agent is starting; try again", err)
	case err != nil && c.Enrolment.Node == "":
		return Status{}, err
	}
	s = statusOf(c)
	if err != nil {
		s.Problem = err.Error()
	}
	return s, nil
}
