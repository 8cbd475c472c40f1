package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// self is this program, also after its file was replaced by an upgrade.
const self = "/proc/self/exe"

// procAttr ends the child with its parent.
func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

func killed(st *os.ProcessState) bool {
	ws, ok := st.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// confine bounds this process. Limits are only ever lowered, which needs no privilege.
func confine(lim Limits) error {
	set := func(what string, resource int, n uint64) error {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", what, n, err)
		}
		return nil
	}
	if err := set("core dumps", unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	if lim.MemoryMB > 0 {
		if err := set("memory", unix.RLIMIT_DATA, uint64(lim.MemoryMB)<<20); err != nil {
			return err
		}
	}
	if lim.CPU > 0 {
		sec := uint64((lim.CPU + time.Second - 1) / time.Second)
		if err := set("processor time", unix.RLIMIT_CPU, sec); err != nil {
			return err
		}
	}
	if lim.FileMB > 0 {
		if err := set("file size", unix.RLIMIT_FSIZE, uint64(lim.FileMB)<<20); err != nil {
			return err
		}
	}
	return filterSyscalls(lim.Network)
}

// filterSyscalls refuses, for every thread of the process and for good, what a child has no use for: running programs,
// tracing, io_uring (which would bypass the filter) and, without network, sockets. The program is classic BPF over
// struct seccomp_data: the call's number at offset 0, the architecture at 4 (seccomp(2)).
func filterSyscalls(network bool) error {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64, "arm": unix.AUDIT_ARCH_ARM}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no system call filter for %s", runtime.GOARCH)
	}
	deny := []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_MOUNT}
	if !network {
		deny = append(deny, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT)
	}
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

	refuse := ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	prog := []unix.SockFilter{load(4), jump(unix.BPF_JEQ, arch, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS), load(0)}
	if runtime.GOARCH == "amd64" {
		const x32 = 0x40000000 // the same calls under other numbers
		prog = append(prog, jump(unix.BPF_JGE, x32, 0, 1), refuse)
	}
	for _, nr := range deny {
		prog = append(prog, jump(unix.BPF_JEQ, nr, 0, 1), refuse)
	}
	prog = append(prog, ret(unix.SECCOMP_RET_ALLOW))

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	return nil
}
