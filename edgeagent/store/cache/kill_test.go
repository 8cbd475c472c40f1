package cache

func child(dir, point string) {}
