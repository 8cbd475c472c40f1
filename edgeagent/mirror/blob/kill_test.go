package blob

func killedChild(string) {}
