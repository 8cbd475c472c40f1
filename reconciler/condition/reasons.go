package condition

// Types of conditions.
const (
	// Ready: everything below is as the plan says.
	Ready = "Ready"
	// SourceReady: the fleet repo was reached and read at the last poll.
	SourceReady = "SourceReady"
	// Verified: the newest revision seen is the one in force; False carries why it was rejected.
	Verified = "Verified"
	// PlanReady: the accepted revision evaluated to a plan for this node.
	PlanReady = "PlanReady"
	// Stale: the newest accepted revision is older than the fleet allows. It informs and stops nothing.
	Stale = "Stale"
	// StateReady: what the node must remember is safely on its disk.
	StateReady = "StateReady"
	// Reported: the newest report is in EdgeNode.status. It is shown on the node only.
	Reported = "Reported"
	// NodePoolReady: labels and annotations of the Node are as planned.
	NodePoolReady = "NodePoolReady"
	// ProxyReady: nothing keeps the autonomy proxy from what it needs, now or in an outage.
	ProxyReady = "ProxyReady"
	// Autonomous: cut off and rebooted, the node would come back with every pod it has.
	Autonomous = "Autonomous"
	// WritesReplayed: nothing that was written while offline was refused by upstream.
	WritesReplayed = "WritesReplayed"
	// Synced: every node of the pool has the newest plan in force. The hub says it of a NodePool.
	Synced = "Synced"
)

// Reasons. A rejected revision carries the reason of its verdict: package verify documents those.
const (
	// ReasonReconciled: observed and planned agree.
	ReasonReconciled = "Reconciled"
	// ReasonAccepted: the newest revision was accepted.
	ReasonAccepted = "Accepted"
	// ReasonPending: nothing came of it yet.
	ReasonPending = "Pending"
	// ReasonBackingOff: the last try went wrong and will be repeated.
	ReasonBackingOff = "BackingOff"
	// ReasonWaiting: something else must happen first.
	ReasonWaiting = "Waiting"
	// ReasonPanicked: the part's code panicked, which is a bug; other parts go on.
	ReasonPanicked = "Panicked"
	// ReasonHung: the part did not come back by its deadline; other parts go on.
	ReasonHung = "Hung"

	// ReasonStored: everything is on disk.
	ReasonStored = "Stored"
	// ReasonStateRestored: state.db was damaged, was set aside and was made anew from its copy; nothing was lost.
	ReasonStateRestored = "StateRestored"
	// ReasonStateDamaged: state.db could not be written because it is damaged.
	ReasonStateDamaged = "StateDamaged"
	// ReasonWriteFailed: writing to the state folder went wrong for another reason than a full disk.
	ReasonWriteFailed = "WriteFailed"

	// ReasonSent: the newest report is in EdgeNode.status.
	ReasonSent = "Sent"
	// ReasonEdgeNodeMissing: there is no EdgeNode for this node yet, or its CRD is not installed.
	ReasonEdgeNodeMissing = "EdgeNodeMissing"

	// ReasonFetched: the fleet repo was read.
	ReasonFetched = "Fetched"
	// ReasonUnreachable: the fleet repo did not answer in time, or the connection was refused.
	ReasonUnreachable = "Unreachable"
	// ReasonAuthFailed: the Git server refused the credentials.
	ReasonAuthFailed = "AuthenticationFailed"
	// ReasonProtocolError: the Git server's answer is not Git's protocol.
	ReasonProtocolError = "ProtocolError"
	// ReasonBranchMissing: the tracked branch is not there.
	ReasonBranchMissing = "BranchMissing"
	// ReasonTooLarge: the revision is over a bound on bytes, files, depth or path length.
	ReasonTooLarge = "TooLarge"
	// ReasonRepaired: a damaged clone was set aside and is being fetched again.
	ReasonRepaired = "CloneRepaired"
	// ReasonDiskFull: there is no room to write.
	ReasonDiskFull = "DiskFull"

	// ReasonPlanned: there is a plan.
	ReasonPlanned = "Planned"
	// ReasonInvalidFleet: the CUE does not parse, does not unify or is not concrete.
	ReasonInvalidFleet = "InvalidFleet"
	// ReasonEvaluationLimit: evaluation used up its memory or its time.
	ReasonEvaluationLimit = "EvaluationLimitExceeded"
	// ReasonNodeAbsent: the pool does not name this node; the last plan stays in force.
	ReasonNodeAbsent = "NodeAbsent"
	// ReasonPoolAbsent: the revision has no such pool; the last plan stays in force.
	ReasonPoolAbsent = "PoolAbsent"
	// ReasonDuplicateNode: two pools name this node.
	ReasonDuplicateNode = "DuplicateNode"

	// ReasonFresh and ReasonTooOld are Stale's.
	ReasonFresh  = "Fresh"
	ReasonTooOld = "TooOld"

	// ReasonStandalone: the node was enrolled without a kubeconfig; there is no Node to reconcile.
	ReasonStandalone = "Standalone"
	// ReasonAPIUnreachable: the kube-apiserver did not answer.
	ReasonAPIUnreachable = "APIServerUnreachable"
	// ReasonForbidden: the kube-apiserver refused what the plan asks for.
	ReasonForbidden = "Forbidden"
	// ReasonUnauthorized: the kube-apiserver does not accept the node's credentials.
	ReasonUnauthorized = "Unauthorized"
	// ReasonNotFound: the kube-apiserver has no such object.
	ReasonNotFound = "NotFound"
	// ReasonConflict: the object was replaced while it was being written.
	ReasonConflict = "Conflict"
	// ReasonInvalid: the kube-apiserver calls what the plan asks for invalid.
	ReasonInvalid = "Invalid"
	// ReasonNodeMissing: the Node object is not there yet: the kubelet has not registered.
	ReasonNodeMissing = "NodeMissing"

	// ReasonBootCovered: every request of a boot without link would be answered.
	ReasonBootCovered = "BootCovered"
	// ReasonBootIncomplete: a boot without link would want something that is not on the node.
	ReasonBootIncomplete = "BootIncomplete"

	// ReasonNotAttached: nobody uses the proxy as the node.
	ReasonNotAttached = "NotAttached"
	// ReasonKubeletChanged: the kubelet's files no longer lead to the proxy, although it was put behind it.
	ReasonKubeletChanged = "KubeletChanged"
	// ReasonCredentialMissing: the node's certificate for the API server cannot be read.
	ReasonCredentialMissing = "CredentialMissing"
	// ReasonCredentialExpired: the node's certificate for the API server has expired.
	ReasonCredentialExpired = "CredentialExpired"
	// ReasonCredentialNotRenewed: it is time, but the cluster gives no new one.
	ReasonCredentialNotRenewed = "CredentialNotRenewed"
	// ReasonIdentityNotKept: what verifies tokens offline, or the cluster's own address, could not be read.
	ReasonIdentityNotKept = "IdentityNotKept"

	// ReasonReplayed: nothing waits to be sent upstream.
	ReasonReplayed = "Replayed"
	// ReasonWritesWaiting: what was written while offline waits for the link.
	ReasonWritesWaiting = "WritesWaiting"
	// ReasonWritesLost: upstream refused something that was written while offline, for good.
	ReasonWritesLost = "WritesLost"

	// ReasonNodesNotReady: some nodes of the pool are not ready.
	ReasonNodesNotReady = "NodesNotReady"
	// ReasonNotSynced: the newest plan is not in force on the node, or on some nodes of the pool.
	ReasonNotSynced = "NotSynced"
	// ReasonKubeletNotReady: Kubernetes calls the node's kubelet not ready: it is down, or cut off.
	ReasonKubeletNotReady = "KubeletNotReady"
	// ReasonNoReport: the kubelet is there, the agent has not reported yet.
	ReasonNoReport = "NoReport"
	// ReasonForeignFleet: the object belongs to another fleet; the hub leaves it alone.
	ReasonForeignFleet = "ForeignFleet"
)
