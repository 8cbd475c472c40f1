package kubelet

import (
	"fmt"
	"regexp"

	"sigs.k8s.io/yaml"
)

// configuration is the part of a KubeletConfiguration that matters here.
type configuration struct {
	Kind           string `json:"kind"`
	Rotate         bool   `json:"rotateCertificates"`
	Authentication struct {
		Webhook struct {
			Enabled *bool `json:"enabled"`
		} `json:"webhook"`
	} `json:"authentication"`
	Authorization struct {
		Mode string `json:"mode"`
	} `json:"authorization"`
}

func parseConfig(raw []byte) (configuration, error) {
	var c configuration
	if err := yaml.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("not a kubelet configuration: %w", err)
	}
	if c.Kind != "KubeletConfiguration" {
		return c, fmt.Errorf("not a kubelet configuration: its kind is %q", c.Kind)
	}
	return c, nil
}

// warnings say what of the configuration keeps exec and logs from working while the node is cut off.
func (c configuration) warnings(path string) []string {
	var out []string
	if on := c.Authentication.Webhook.Enabled; on != nil && !*on {
		out = append(out, fmt.Sprintf("%s has authentication.webhook.enabled: false: kubectl exec and logs will not work on this node while it is cut off", path))
	}
	if mode := c.Authorization.Mode; mode == "AlwaysAllow" {
		out = append(out, fmt.Sprintf("%s has authorization.mode: AlwaysAllow: whoever the kubelet authenticates may run anything in any pod", path))
	}
	return out
}

var rotateLines = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^(rotateCertificates[ \t]*:[ \t]+)(\S+)`),         // YAML
	regexp.MustCompile(`("rotateCertificates"[ \t\r\n]*:[ \t\r\n]*)([a-z]+)`), // JSON, and YAML in its style
}

// setRotate changes the one word that says whether the kubelet renews its certificate itself, and nothing else of the text. It is
// nil if the text says so already.
func setRotate(raw []byte, on bool) ([]byte, error) {
	c, err := parseConfig(raw)
	if err != nil || c.Rotate == on {
		return nil, err
	}
	for _, line := range rotateLines {
		found := line.FindAllSubmatchIndex(raw, -1)
		if len(found) != 1 {
			continue
		}
		at := found[0]
		out := append([]byte(nil), raw[:at[4]]...)
		out = append(out, fmt.Sprint(on)...)
		out = append(out, raw[at[5]:]...)
		if c, err := parseConfig(out); err == nil && c.Rotate == on {
			return out, nil
		}
	}
	return nil, fmt.Errorf("no line says only rotateCertificates: set it to %v by hand", on)
}
