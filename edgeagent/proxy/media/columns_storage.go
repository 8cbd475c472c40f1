package media

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// betaClass is where volumes had their StorageClass before there was a field.
const betaClass = "volume.beta.kubernetes.io/storage-class"

// accessModes gives "RWO,ROX".
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode corev1.PersistentVolumeAccessMode
		text string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.text)
		}
	}
	return strings.Join(short, ",")
}

func volumeColumns() *columns {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("Capacity", spec["capacity"]), text("Access Modes", spec["accessModes"]),
		text("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]), text("Status", status["phase"]), text("Claim", spec["claimRef"]),
		text("StorageClass", "StorageClass of the pv"), text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
		text("Reason", status["reason"]), ageHeader(), wide("VolumeMode", spec["volumeMode"]),
	}
	return printed(headers, func(v *corev1.PersistentVolume, now time.Time) []any {
		claim, phase := "", string(v.Status.Phase)
		if c := v.Spec.ClaimRef; c != nil {
			claim = c.Namespace + "/" + c.Name
		}
		if v.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		class, old := v.Annotations[betaClass]
		if !old {
			class = v.Spec.StorageClassName
		}
		capacity := v.Spec.Capacity[corev1.ResourceStorage]
		return []any{
			v.Name, capacity.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim, class,
			value(v.Spec.VolumeAttributesClassName, "<unset>"), v.Status.Reason, since(v.CreationTimestamp, now),
			string(value(v.Spec.VolumeMode, "<unset>")),
		}
	})
}

func claimColumns() *columns {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("Status", status["phase"]), text("Volume", spec["volumeName"]), text("Capacity", status["capacity"]),
		text("Access Modes", status["accessModes"]), text("StorageClass", "StorageClass of the pvc"),
		text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"), ageHeader(), wide("VolumeMode", spec["volumeMode"]),
	}
	return printed(headers, func(c *corev1.PersistentVolumeClaim, now time.Time) []any {
		phase, capacity, modes := string(c.Status.Phase), "", ""
		if c.DeletionTimestamp != nil {
			phase = "Terminating"
		}
		if c.Spec.VolumeName != "" {
			storage := c.Status.Capacity[corev1.ResourceStorage]
			capacity, modes = storage.String(), accessModes(c.Status.AccessModes)
		}
		class, old := c.Annotations[betaClass]
		if !old {
			class = value(c.Spec.StorageClassName, "")
		}
		return []any{
			c.Name, phase, c.Spec.VolumeName, capacity, modes, class, value(c.Spec.VolumeAttributesClassName, "<unset>"),
			since(c.CreationTimestamp, now), string(value(c.Spec.VolumeMode, "<unset>")),
		}
	})
}

func storageClassColumns() *columns {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	headers := []header{
		nameHeader(), text("Provisioner", doc["provisioner"]), text("ReclaimPolicy", doc["reclaimPolicy"]),
		text("VolumeBindingMode", doc["volumeBindingMode"]), text("AllowVolumeExpansion", doc["allowVolumeExpansion"]), ageHeader(),
	}
	c := printed(headers, func(s *storagev1.StorageClass, now time.Time) []any {
		return []any{
			s.Name, s.Provisioner, string(value(s.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
			string(value(s.VolumeBindingMode, storagev1.VolumeBindingImmediate)), value(s.AllowVolumeExpansion, false), since(s.CreationTimestamp, now),
		}
	})
	c.survey = defaultClass
	return c
}

// defaultClass finds the class that is in force if several say that they are the default: the newest one, and marks it.
func defaultClass(items iter.Seq2[scope.Item, error]) (func(cells []any), error) {
	var name string
	var newest time.Time
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		meta, err := decodeMetadata(item)
		if err != nil {
			return nil, err
		}
		if meta.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" &&
			meta.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true" {
			continue
		}
		made := meta.CreationTimestamp.Time
		if name == "" || made.After(newest) || made.Equal(newest) && meta.Name < name {
			name, newest = meta.Name, made
		}
	}
	return func(cells []any) {
		if name != "" && cells[0] == name {
			cells[0] = name + " (default)"
		}
	}, nil
}

func attachmentColumns() *columns {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	headers := []header{
		nameHeader(), {Name: "Attacher", Type: "string", Format: "name", Description: spec["attacher"]},
		text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]), text("Node", spec["nodeName"]),
		truth("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]), ageHeader(),
	}
	return printed(headers, func(a *storagev1.VolumeAttachment, now time.Time) []any {
		return []any{
			a.Name, a.Spec.Attacher, value(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName, a.Status.Attached,
			since(a.CreationTimestamp, now),
		}
	})
}

func csiNodeColumns() *columns {
	headers := []header{nameHeader(), whole("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), ageHeader()}
	return printed(headers, func(n *storagev1.CSINode, now time.Time) []any {
		return []any{n.Name, int64(len(n.Spec.Drivers)), since(n.CreationTimestamp, now)}
	})
}

func csiDriverColumns() *columns {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	headers := []header{
		nameHeader(), truth("AttachRequired", doc["attachRequired"]), truth("PodInfoOnMount", doc["podInfoOnMount"]),
		truth("StorageCapacity", doc["storageCapacity"]), text("TokenRequests", doc["tokenRequests"]),
		truth("RequiresRepublish", doc["requiresRepublish"]), text("Modes", doc["volumeLifecycleModes"]), ageHeader(),
	}
	return printed(headers, func(d *storagev1.CSIDriver, now time.Time) []any {
		tokens, modes := "<unset>", []string{}
		if d.Spec.TokenRequests != nil {
			var audiences []string
			for _, t := range d.Spec.TokenRequests {
				audiences = append(audiences, t.Audience)
			}
			tokens = strings.Join(audiences, ",")
		}
		for _, mode := range d.Spec.VolumeLifecycleModes {
			modes = append(modes, string(mode))
		}
		return []any{
			d.Name, value(d.Spec.AttachRequired, true), value(d.Spec.PodInfoOnMount, false), value(d.Spec.StorageCapacity, false), tokens,
			value(d.Spec.RequiresRepublish, false), orElse(strings.Join(modes, ","), "<none>"), since(d.CreationTimestamp, now),
		}
	})
}
