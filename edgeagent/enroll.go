package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// EnrollOptions say what a node becomes part of.
type EnrollOptions struct {
	// State is the state folder; it is made if it is not there.
	State string
	Node  string
	// Pool may be "": the pool that names the node is found.
	Pool string
	// URL, Branch and Anchor say which fleet repo, and from which commit on it is believed. The anchor must have been got out
	// of band: it is what all trust of this node hangs on.
	URL, Branch, Anchor string
	// RepoAuth is a file with the credentials of the Git server, CA one with its certificates; "" means none.
	RepoAuth, CA string
	// Kubeconfig is the kubelet's; "" means standalone.
	Kubeconfig string
	// Proxy puts the kubelet behind the autonomy proxy; its Kubelet.Kubeconfig is Kubeconfig. Nil leaves the kubelet as it is.
	Proxy *ProxyOptions
	// Version is the agent's.
	Version string
	Log     *slog.Logger
	// Progress is told what is under way. It may be nil.
	Progress func(format string, args ...any)
}

// Enrolled is what came of it.
type Enrolled struct {
	Status
	// Already: the node was enrolled so before; only credentials and addresses were brought up to date.
	Already bool
	// Attached says that the kubelet was put behind the proxy, nil if it was not.
	Attached *Attached
	// Warnings say what will keep the node from its plan, although it is enrolled.
	Warnings []string
}

// Enroll makes a machine a node of a fleet: it fetches the fleet repo, reads fleet and trust at the anchor, verifies the
// branch from there, and stores it all. If anything is wrong nothing is left behind. Enrolling again with the same node
// and fleet renews credentials and addresses; it never touches trust.
func Enroll(ctx context.Context, o EnrollOptions) (Enrolled, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	if err := o.validate(); err != nil {
		return Enrolled{}, err
	}
	creds, err := o.credentials()
	if err != nil {
		return Enrolled{}, err
	}
	o.Progress("checking credentials")
	if err := o.checkNode(ctx, creds.kube); err != nil {
		return Enrolled{}, err
	}
	fresh := !exists(o.State)
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		return Enrolled{}, fmt.Errorf("make state folder: %w", err)
	}
	lock, err := store.TakeLock(o.State)
	if errors.Is(err, store.ErrInUse) {
		return Enrolled{}, fmt.Errorf("%w: stop the agent first (systemctl stop holdfast-agent)", err)
	}
	if err != nil {
		return Enrolled{}, err
	}
	defer lock.Release()
	kept, err := store.ReadLocked(o.State, lock)
	switch {
	case err == nil:
		result, err := o.again(lock, kept.State, creds)
		if err == nil {
			err = o.attach(&result)
		}
		return result, err
	case !errors.Is(err, store.ErrNotEnrolled):
		return Enrolled{}, err
	}
	result, err := o.first(ctx, lock, creds)
	if err == nil {
		err = o.attach(&result)
	}
	if err != nil {
		if _, undo := detach(o.State, nil); undo != nil && !errors.Is(undo, kubelet.ErrNotAttached) {
			return Enrolled{}, errors.Join(err, undo) // what it takes to put the kubelet's files back must stay
		}
		lock.Release()
		return Enrolled{}, errors.Join(err, cleanUp(o.State, fresh))
	}
	return result, nil
}

func (o EnrollOptions) enrolment() store.Enrolment {
	return store.Enrolment{Node: o.Node, Pool: o.Pool, URL: o.URL, Branch: o.Branch, Standalone: o.Kubeconfig == ""}
}

// first enrols a machine that is not enrolled. The state appears last, so that it is enrolled wholly or not at all.
func (o EnrollOptions) first(ctx context.Context, lock *store.Lock, creds credentials) (Enrolled, error) {
	e := o.enrolment()
	f, err := followerOf(o.State, e, creds.auth, o.Log)
	if err != nil {
		return Enrolled{}, err
	}
	defer closeFollower(f)
	o.Progress("fetching %s", o.URL)
	refs, err := f.Poll(ctx)
	if err == nil {
		err = f.Fetch(ctx, refs)
	}
	if err != nil {
		return Enrolled{}, fmt.Errorf("fetch %s: %w", o.URL, err)
	}
	o.Progress("verifying from anchor %s", short(o.Anchor))
	trust, verdict, err := anchor(ctx, f, "", o.Anchor, refs)
	if err != nil {
		return Enrolled{}, err
	}
	if err := errors.Join(creds.write(o.State), identity.Make(filepath.Join(o.State, tlsDir), o.Node)); err != nil {
		return Enrolled{}, fmt.Errorf("write state folder: %w", err)
	}
	if err := store.Create(o.State, e, trust); err != nil {
		return Enrolled{}, err
	}
	result := Enrolled{}
	if err := o.adopt(ctx, lock, f, verdict, refs, &result); err != nil {
		return Enrolled{}, err
	}
	return result, nil
}

// adopt stores the branch's tip and its plan, so that the first start needs no network, or says what is in the way.
func (o EnrollOptions) adopt(ctx context.Context, lock *store.Lock, f Follower, verdict verify.Verdict, refs source.Refs, result *Enrolled) error {
	st, err := store.OpenLocked(o.State, lock, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	switch {
	case !verdict.Accepted:
		result.Warnings = append(result.Warnings, fmt.Sprintf("revision %s is rejected: %s: %s", short(refs.Tip), verdict.Reason, verdict.Message))
	default:
		o.Progress("evaluating the plan")
		p, err := choose(ctx, f, verdict.State.Accepted, o.Node, o.Pool)
		var inForce *store.InForce
		if err != nil {
			result.Warnings = append(result.Warnings, fmt.Sprintf("revision %s gives this node no plan: %v", short(refs.Tip), err))
		} else {
			inForce = &store.InForce{Revision: verdict.State.Accepted, Plan: *p, Digest: p.Digest()}
		}
		if err := st.Accept(verdict.State, inForce); err != nil {
			return err
		}
	}
	result.Status = statusOf(st.Contents())
	return nil
}

// attach puts the kubelet behind the proxy, if that was asked for.
func (o EnrollOptions) attach(result *Enrolled) error {
	if o.Proxy == nil || o.Kubeconfig == "" {
		return nil
	}
	p := *o.Proxy
	p.Kubelet.Kubeconfig = o.Kubeconfig
	if at, err := kubelet.Read(o.State); err == nil {
		p.Kubelet = at.Files // the credential may come from elsewhere; the kubelet's files are known
	}
	o.Progress("putting the kubelet behind the proxy")
	a, err := attach(o.State, o.Node, p)
	if err != nil {
		return err
	}
	result.Attached = &a
	result.Warnings = append(result.Warnings, a.Warnings...)
	return nil
}

// again renews what may change on an enrolled node.
func (o EnrollOptions) again(lock *store.Lock, kept store.State, creds credentials) (Enrolled, error) {
	e := o.enrolment()
	if kept.Enrolment.Node != e.Node || kept.Trust.Anchor != o.Anchor {
		return Enrolled{}, fmt.Errorf("%s is enrolled as node %s of fleet %s with anchor %s: run holdfast-agent unenroll first to change that", o.State, kept.Enrolment.Node, kept.Trust.Fleet, kept.Trust.Anchor)
	}
	if e.Pool == "" {
		e.Pool = kept.Enrolment.Pool
	}
	f, err := followerOf(o.State, e, creds.auth, o.Log) // checks address and credentials
	if err != nil {
		return Enrolled{}, err
	}
	closeFollower(f)
	if creds.kube, err = behindProxy(o.State, creds.kube); err != nil {
		return Enrolled{}, err
	}
	if err := creds.write(o.State); err != nil {
		return Enrolled{}, fmt.Errorf("write state folder: %w", err)
	}
	st, err := store.OpenLocked(o.State, lock, nil)
	if err != nil {
		return Enrolled{}, err
	}
	defer st.Close()
	if err := st.SetEnrolment(e); err != nil {
		return Enrolled{}, err
	}
	result := Enrolled{Status: statusOf(st.Contents()), Already: true}
	if o.Pool != "" && result.Pool != o.Pool {
		result.Warnings = append(result.Warnings, fmt.Sprintf("the plan in force says that the node is in pool %s, and stays: to move it to %s say so in the fleet repo (movedTo)", result.Pool, o.Pool))
	}
	return result, nil
}

// cleanUp takes away what a failed enrolment made. A folder that was there before stays.
func cleanUp(state string, fresh bool) error {
	errs := []error{store.Remove(state)}
	for _, pattern := range []string{repoFolder, credentialsDir, tlsDir, socketName, podAddressFile, cacheDir} {
		made, err := filepath.Glob(filepath.Join(state, pattern))
		errs = append(errs, err)
		for _, path := range made {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	if fresh {
		errs = append(errs, os.RemoveAll(state))
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func closeFollower(f Follower) {
	if c, ok := f.(interface{ Close() }); ok {
		c.Close()
	}
}
