package selftest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// pod is what of a Pod says what it needs to start.
type pod struct {
	Metadata struct {
		Namespace, Name, UID string
		Annotations, Labels  map[string]string
	}
	Spec struct {
		ServiceAccountName, RuntimeClassName string
		Containers, InitContainers           []container
		EphemeralContainers                  []container
		ImagePullSecrets                     []reference
		Volumes                              []volume
		ResourceClaims                       []struct{ Name, ResourceClaimName string }
	}
	Status struct {
		Phase                 string
		ResourceClaimStatuses []struct{ Name, ResourceClaimName string }
	}
}

type reference struct{ Name string }

type container struct {
	Image string
	Env   []struct {
		ValueFrom struct{ ConfigMapKeyRef, SecretKeyRef *reference }
	}
	EnvFrom []struct{ ConfigMapRef, SecretRef *reference }
}

type volume struct {
	Name      string
	ConfigMap *reference
	Secret    *struct{ SecretName string }
	Projected *struct{ Sources []source }
	CSI       *struct {
		Driver               string
		NodePublishSecretRef *reference
	}
	PersistentVolumeClaim *struct{ ClaimName string }
	Ephemeral             *struct{}
}

type source struct {
	ConfigMap, Secret   *reference
	ServiceAccountToken *struct{ Audience string }
	ClusterTrustBundle  *struct{}
}

func (p pod) name() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// pod asks what the kubelet asks to start one pod.
func (b *boot) pod(p pod) {
	b.count++
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers, p.Spec.EphemeralContainers) {
		b.container(p, c)
	}
	for _, s := range p.Spec.ImagePullSecrets {
		b.object(p, "Secret", "secrets", &s)
	}
	for _, v := range p.Spec.Volumes {
		b.volume(p, v)
	}
	if class := p.Spec.RuntimeClassName; class != "" {
		b.need(p.name(), "RuntimeClass", class, "/apis/node.k8s.io/v1/runtimeclasses/"+class)
	}
	b.claims(p)
	b.images(p)
	if p.Metadata.Labels["k8s-app"] == "kube-proxy" {
		b.kubeProxy(p)
	}
}

func (b *boot) container(p pod, c container) {
	for _, e := range c.Env {
		b.object(p, "ConfigMap", "configmaps", e.ValueFrom.ConfigMapKeyRef)
		b.object(p, "Secret", "secrets", e.ValueFrom.SecretKeyRef)
	}
	for _, e := range c.EnvFrom {
		b.object(p, "ConfigMap", "configmaps", e.ConfigMapRef)
		b.object(p, "Secret", "secrets", e.SecretRef)
	}
}

// object asks for a ConfigMap or Secret the way the kubelet does: with a watch of that one name.
func (b *boot) object(p pod, kind, resource string, r *reference) {
	if r == nil || r.Name == "" {
		return
	}
	namespace := p.Metadata.Namespace
	b.need(p.name(), kind, namespace+"/"+r.Name,
		"/api/v1/namespaces/"+namespace+"/"+resource+"?fieldSelector="+url.QueryEscape("metadata.name="+r.Name))
}

func (b *boot) volume(p pod, v volume) {
	b.object(p, "ConfigMap", "configmaps", v.ConfigMap)
	if v.Secret != nil {
		b.object(p, "Secret", "secrets", &reference{v.Secret.SecretName})
	}
	if v.Projected != nil {
		for _, s := range v.Projected.Sources {
			b.source(p, s)
		}
	}
	if v.CSI != nil {
		b.object(p, "Secret", "secrets", v.CSI.NodePublishSecretRef)
	}
	switch {
	case v.PersistentVolumeClaim != nil:
		b.claim(p, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		b.claim(p, p.Metadata.Name+"-"+v.Name)
	}
}

func (b *boot) source(p pod, s source) {
	b.object(p, "ConfigMap", "configmaps", s.ConfigMap)
	b.object(p, "Secret", "secrets", s.Secret)
	if s.ServiceAccountToken != nil {
		b.token(p, s.ServiceAccountToken.Audience)
	}
	if s.ClusterTrustBundle != nil {
		path := "/apis/certificates.k8s.io/v1/clustertrustbundles"
		if b.get(path).code != http.StatusOK {
			path = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"
		}
		b.need(p.name(), "ClusterTrustBundles", "all", path)
	}
}

// token asks for the pod's token.
func (b *boot) token(p pod, audience string) {
	account := p.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	spec := map[string]any{"boundObjectRef": map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.Metadata.Name, "uid": p.Metadata.UID}}
	name := p.Metadata.Namespace + "/" + account
	if audience != "" {
		spec["audiences"] = []string{audience}
		name += " for " + audience
	}
	a := b.post("/api/v1/namespaces/"+p.Metadata.Namespace+"/serviceaccounts/"+account+"/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
	if a.code != http.StatusCreated {
		b.miss(p.name(), "Token", name, a.why())
	}
}

// claim asks for a PersistentVolumeClaim, its volume, and whether that is attached.
func (b *boot) claim(p pod, name string) {
	var claim struct{ Spec struct{ VolumeName string } }
	full := p.Metadata.Namespace + "/" + name
	if !b.read(p.name(), "PersistentVolumeClaim", full, "/api/v1/namespaces/"+p.Metadata.Namespace+"/persistentvolumeclaims/"+name, &claim) || claim.Spec.VolumeName == "" {
		return
	}
	var pv struct {
		Spec struct {
			CSI *struct {
				Driver, VolumeHandle                     string
				NodePublishSecretRef, NodeStageSecretRef *struct{ Namespace, Name string }
			}
		}
	}
	if !b.read(p.name(), "PersistentVolume", claim.Spec.VolumeName, "/api/v1/persistentvolumes/"+claim.Spec.VolumeName, &pv) || pv.Spec.CSI == nil {
		return
	}
	csi := pv.Spec.CSI
	for _, secret := range []*struct{ Namespace, Name string }{csi.NodePublishSecretRef, csi.NodeStageSecretRef} {
		if secret != nil {
			b.need(p.name(), "Secret", secret.Namespace+"/"+secret.Name, "/api/v1/namespaces/"+secret.Namespace+"/secrets/"+secret.Name)
		}
	}
	var driver struct {
		Spec struct{ AttachRequired *bool }
	}
	b.read(p.name(), "CSIDriver", csi.Driver, "/apis/storage.k8s.io/v1/csidrivers/"+csi.Driver, &driver)
	if driver.Spec.AttachRequired == nil || *driver.Spec.AttachRequired {
		attachment := fmt.Sprintf("csi-%x", sha256.Sum256([]byte(csi.VolumeHandle+csi.Driver+b.cfg.Node)))
		b.need(p.name(), "VolumeAttachment", attachment, "/apis/storage.k8s.io/v1/volumeattachments/"+attachment)
	}
}

// claims asks for the devices that were allocated to the pod.
func (b *boot) claims(p pod) {
	for _, c := range p.Spec.ResourceClaims {
		name := c.ResourceClaimName
		for _, s := range p.Status.ResourceClaimStatuses {
			if s.Name == c.Name {
				name = s.ResourceClaimName
			}
		}
		if name != "" {
			b.need(p.name(), "ResourceClaim", p.Metadata.Namespace+"/"+name, "/apis/resource.k8s.io/v1/namespaces/"+p.Metadata.Namespace+"/resourceclaims/"+name)
		}
	}
}

func (b *boot) images(p pod) {
	if b.cfg.Images == nil {
		return
	}
	var images []string
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if !slices.Contains(images, c.Image) {
			images = append(images, c.Image)
		}
	}
	missing, err := b.cfg.Images(b.ctx, images)
	if err != nil {
		b.miss(p.name(), "Image", strings.Join(images, ", "), err.Error())
	}
	for _, image := range missing {
		b.miss(p.name(), "Image", image, "it is not on this node")
	}
}

// kubeProxy looks for what kube-proxy reads as itself: without it no Service works after a boot.
func (b *boot) kubeProxy(p pod) {
	if b.cfg.Scopes == nil {
		return
	}
	account := "system:serviceaccount:" + p.Metadata.Namespace + ":" + p.Spec.ServiceAccountName + "@"
	for _, r := range []scope.Resource{
		{Version: "v1", Resource: "services"}, {Version: "v1", Resource: "nodes"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	} {
		has := slices.ContainsFunc(b.cfg.Scopes("", r), func(i scope.Info) bool {
			return i.Key.Resource == r && i.Key.Name == "" && strings.HasPrefix(i.Key.Identity, account)
		})
		if !has {
			b.miss(p.name(), strings.ToUpper(r.Resource[:1])+r.Resource[1:], "as kube-proxy reads them",
				"kube-proxy has not read them through this proxy: does it reach the API server by the Service kubernetes or by "+b.cfg.Node+"'s own address?")
		}
	}
}
