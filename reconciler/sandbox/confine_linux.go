package sandbox

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
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
		n, err := memoryBytes(lim.MemoryMB)
		if err != nil {
			return fmt.Errorf("limit memory: %w", err)
		}
		if err := set("memory", unix.RLIMIT_DATA, n); err != nil {
			return err
		}
	}
	if lim.CPU > 0 {
		if err := limitCPU(cpuTime(lim.CPU)); err != nil {
			return err
		}
	}
	if lim.FileMB > 0 {
		if err := set("file size", unix.RLIMIT_FSIZE, uint64(lim.FileMB)<<20); err != nil {
			return err
		}
	}
	if err := filterSyscalls(lim.Network); err != nil {
		return err
	}
	return confineFiles(lim)
}

// denied are the calls that no child has a use for: new programs, other processes, other views of the file system, and what root
// may change about the machine. Landlock does not see changes of modes, owners and attributes by path.
var denied = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWNAT, unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_SETXATTRAT,
	unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_REMOVEXATTRAT, unix.SYS_FILE_SETATTR, unix.SYS_MKNODAT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_SETHOSTNAME,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
}

// deniedByNumber are older calls for the same, which some architectures alone have: chmod, chown, lchown, mknod.
var deniedByNumber = map[string][]uint32{"amd64": {90, 92, 94, 133}, "arm": {15, 182, 16, 14, 212, 198}}

// limitCPU ends the process with exitCPU once it has used d, in whole seconds; should it not get to that, the kernel ends it
// two seconds later.
func limitCPU(d time.Duration) error {
	sec := uint64((d + time.Second - 1) / time.Second)
	spent := make(chan os.Signal, 1)
	signal.Notify(spent, syscall.SIGXCPU)
	go func() {
		<-spent
		os.Exit(exitCPU)
	}()
	if err := unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: sec, Max: sec + 2}); err != nil {
		return fmt.Errorf("limit processor time to %d s: %w", sec, err)
	}
	return nil
}

// filterSyscalls refuses, for every thread of the process and for good, what a child has no use for, io_uring among it, which
// would bypass the filter, and, without network, sockets. The program is classic BPF over
// struct seccomp_data: the call's number at offset 0, the architecture at 4 (seccomp(2)).
func filterSyscalls(network bool) error {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64, "arm": unix.AUDIT_ARCH_ARM}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no system call filter for %s", runtime.GOARCH)
	}
	deny := slices.Concat(denied, deniedByNumber[runtime.GOARCH])
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
