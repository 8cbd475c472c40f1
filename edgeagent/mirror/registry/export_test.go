package registry

// Fresh counts the decisions in memory.
func (h *Handler) Fresh() int {
	h.fresh.mu.Lock()
	defer h.fresh.mu.Unlock()
	return len(h.fresh.at)
}
