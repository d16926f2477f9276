// SPDX-License-Identifier: GPL-2.0
/* Numbers of the Linux user interface, which differ between architectures. */
#define _GNU_SOURCE
#define HOSTWALK_TABLE_SECTION ".hostwalk.abi"

#include <asm/errno.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/ioctl.h>
#include <linux/ipc.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <linux/personality.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/shm.h>
#include <linux/userfaultfd.h>

#include "hostwalk_table.h"

#define C(name) HOSTWALK_ENTRY(#name, name)

/* System calls; an architecture lacks those that newer ones replace. */
C(__NR_mmap); C(__NR_munmap); C(__NR_mprotect); C(__NR_mremap); C(__NR_mlock);
C(__NR_mlock2); C(__NR_munlock); C(__NR_mlockall); C(__NR_munlockall); C(__NR_madvise);
C(__NR_msync); C(__NR_mincore); C(__NR_brk); C(__NR_remap_file_pages); C(__NR_mbind);
C(__NR_pkey_alloc); C(__NR_pkey_mprotect); C(__NR_pkey_free); C(__NR_process_madvise);
C(__NR_process_mrelease); C(__NR_openat); C(__NR_close); C(__NR_read); C(__NR_write);
C(__NR_pread64); C(__NR_pwrite64); C(__NR_readv); C(__NR_writev); C(__NR_preadv);
C(__NR_pwritev); C(__NR_ioctl); C(__NR_lseek); C(__NR_ftruncate); C(__NR_fallocate);
C(__NR_fcntl); C(__NR_dup); C(__NR_dup3); C(__NR_pipe2); C(__NR_unlinkat);
C(__NR_fchmod); C(__NR_execve);
C(__NR_fstat); C(__NR_sendfile); C(__NR_splice); C(__NR_vmsplice); C(__NR_tee);
C(__NR_memfd_create); C(__NR_memfd_secret); C(__NR_userfaultfd); C(__NR_shmget);
C(__NR_shmat); C(__NR_shmdt); C(__NR_shmctl); C(__NR_swapon); C(__NR_swapoff);
C(__NR_mount); C(__NR_umount2); C(__NR_mkdirat); C(__NR_getpid); C(__NR_gettid);
C(__NR_getppid); C(__NR_prctl); C(__NR_process_vm_readv); C(__NR_process_vm_writev);
C(__NR_prlimit64); C(__NR_setrlimit); C(__NR_getrlimit); C(__NR_personality);
C(__NR_exit); C(__NR_exit_group); C(__NR_kill); C(__NR_tgkill); C(__NR_rt_sigaction);
C(__NR_rt_sigprocmask); C(__NR_sched_setaffinity); C(__NR_sched_getaffinity);
C(__NR_sched_yield); C(__NR_setuid); C(__NR_setresuid); C(__NR_setresgid);
C(__NR_setgroups); C(__NR_capset); C(__NR_capget); C(__NR_getuid); C(__NR_unshare);
C(__NR_setns); C(__NR_pidfd_open); C(__NR_pidfd_getfd); C(__NR_ptrace); C(__NR_futex);
C(__NR_getrandom); C(__NR_clock_gettime);
C(__NR_nanosleep); C(__NR_clock_nanosleep); C(__NR_ppoll); C(__NR_sync); C(__NR_fsync);
C(__NR_io_uring_setup); C(__NR_io_uring_enter); C(__NR_io_uring_register);
C(__NR_membarrier); C(__NR_seccomp); C(__NR_get_mempolicy); C(__NR_set_mempolicy);
C(__NR_move_pages); C(__NR_migrate_pages); C(__NR_kcmp); C(__NR_uname); C(__NR_reboot);
C(__NR_socketpair); C(__NR_init_module); C(__NR_delete_module);

/* Protections and mappings. */
C(PROT_READ); C(PROT_WRITE); C(PROT_EXEC); C(PROT_NONE); C(PROT_SEM); C(PROT_GROWSDOWN);
C(PROT_GROWSUP); C(MAP_SHARED); C(MAP_PRIVATE); C(MAP_SHARED_VALIDATE); C(MAP_TYPE);
C(MAP_FIXED); C(MAP_ANONYMOUS); C(MAP_GROWSDOWN); C(MAP_DENYWRITE); C(MAP_EXECUTABLE);
C(MAP_LOCKED); C(MAP_NORESERVE); C(MAP_POPULATE); C(MAP_NONBLOCK); C(MAP_STACK);
C(MAP_HUGETLB); C(MAP_SYNC); C(MAP_FIXED_NOREPLACE); C(MAP_UNINITIALIZED);
C(MAP_HUGE_SHIFT); C(MAP_HUGE_MASK); C(MAP_HUGE_64KB); C(MAP_HUGE_2MB);
C(MAP_HUGE_32MB); C(MAP_HUGE_512MB); C(MAP_HUGE_1GB); C(MREMAP_MAYMOVE);
C(MREMAP_FIXED); C(MREMAP_DONTUNMAP); C(MS_ASYNC); C(MS_INVALIDATE); C(MS_SYNC);
C(MCL_CURRENT); C(MCL_FUTURE); C(MCL_ONFAULT); C(MLOCK_ONFAULT); C(MADV_NORMAL);
C(MADV_RANDOM); C(MADV_SEQUENTIAL); C(MADV_WILLNEED); C(MADV_DONTNEED); C(MADV_FREE);
C(MADV_REMOVE); C(MADV_DONTFORK); C(MADV_DOFORK); C(MADV_HWPOISON);
C(MADV_SOFT_OFFLINE); C(MADV_MERGEABLE); C(MADV_UNMERGEABLE); C(MADV_HUGEPAGE);
C(MADV_NOHUGEPAGE); C(MADV_DONTDUMP); C(MADV_DODUMP); C(MADV_WIPEONFORK);
C(MADV_KEEPONFORK); C(MADV_COLD); C(MADV_PAGEOUT); C(MADV_POPULATE_READ);
C(MADV_POPULATE_WRITE); C(MADV_DONTNEED_LOCKED); C(MADV_COLLAPSE);
C(PKEY_DISABLE_ACCESS); C(PKEY_DISABLE_WRITE); C(MPOL_DEFAULT); C(MPOL_BIND);
C(MPOL_MF_MOVE); C(SHM_HUGETLB); C(SHM_NORESERVE); C(SHM_LOCK); C(SHM_UNLOCK);
C(SHM_RDONLY); C(SHM_REMAP); C(IPC_CREAT); C(IPC_PRIVATE); C(IPC_RMID);

/* Files. */
C(AT_FDCWD); C(O_RDONLY); C(O_WRONLY); C(O_RDWR); C(O_CREAT); C(O_EXCL); C(O_TRUNC);
C(O_APPEND); C(O_NONBLOCK); C(O_DIRECT); C(O_CLOEXEC); C(O_PATH); C(O_TMPFILE);
C(O_DIRECTORY); C(O_SYNC); C(MFD_CLOEXEC); C(MFD_ALLOW_SEALING); C(MFD_HUGETLB);
C(F_ADD_SEALS); C(F_GET_SEALS); C(F_SEAL_SEAL); C(F_SEAL_SHRINK); C(F_SEAL_GROW);
C(F_SEAL_WRITE); C(F_SEAL_FUTURE_WRITE); C(F_DUPFD); C(F_GETFD); C(F_SETFD); C(F_GETFL);
C(F_SETFL); C(FALLOC_FL_KEEP_SIZE); C(FALLOC_FL_PUNCH_HOLE); C(FALLOC_FL_ZERO_RANGE);

/* Processes. */
C(RLIMIT_CPU); C(RLIMIT_FSIZE); C(RLIMIT_DATA); C(RLIMIT_STACK); C(RLIMIT_CORE);
C(RLIMIT_RSS); C(RLIMIT_NPROC); C(RLIMIT_NOFILE); C(RLIMIT_MEMLOCK); C(RLIMIT_AS);
C(RLIMIT_SIGPENDING); C(RLIM_INFINITY); C(PR_SET_NAME); C(PR_SET_DUMPABLE);
C(PR_GET_DUMPABLE); C(PR_SET_THP_DISABLE); C(PR_GET_THP_DISABLE); C(PR_SET_MM);
C(PR_SET_VMA); C(PR_SET_VMA_ANON_NAME); C(PR_SET_TAGGED_ADDR_CTRL); C(PR_SET_PTRACER);
C(PR_SET_NO_NEW_PRIVS); C(PR_SET_SECCOMP); C(READ_IMPLIES_EXEC); C(ADDR_NO_RANDOMIZE);
C(MMAP_PAGE_ZERO); C(CAP_IPC_LOCK); C(CAP_SYS_ADMIN); C(CAP_SYS_PTRACE);
C(CAP_SYS_RESOURCE); C(_LINUX_CAPABILITY_VERSION_3); C(CLONE_VM); C(CLONE_FS);
C(CLONE_FILES); C(CLONE_SIGHAND); C(CLONE_NEWUSER); C(CLONE_NEWNS); C(PTRACE_TRACEME);
C(PTRACE_ATTACH); C(PTRACE_DETACH); C(PTRACE_PEEKDATA); C(PTRACE_POKEDATA);

/* Signals and what they say about a fault. */
C(SIGHUP); C(SIGINT); C(SIGQUIT); C(SIGILL); C(SIGTRAP); C(SIGABRT); C(SIGBUS);
C(SIGFPE); C(SIGKILL); C(SIGUSR1); C(SIGSEGV); C(SIGUSR2); C(SIGPIPE); C(SIGALRM);
C(SIGTERM); C(SIGSTKFLT); C(SIGCHLD); C(SIGCONT); C(SIGSTOP); C(SIGTSTP); C(SIGTTIN);
C(SIGTTOU); C(SIGURG); C(SIGXCPU); C(SIGXFSZ); C(SIGVTALRM); C(SIGPROF); C(SIGWINCH);
C(SIGIO); C(SIGPWR); C(SIGSYS); C(SIG_BLOCK); C(SIG_UNBLOCK); C(SIG_SETMASK);
C(SA_SIGINFO); C(SA_ONSTACK); C(SA_RESTART); C(SA_NODEFER); C(SI_USER); C(SI_KERNEL);
C(SI_TKILL); C(SEGV_MAPERR); C(SEGV_ACCERR); C(SEGV_BNDERR); C(SEGV_PKUERR);
C(SEGV_ACCADI); C(SEGV_ADIDERR); C(SEGV_ADIPERR); C(SEGV_MTEAERR); C(SEGV_MTESERR);
C(BUS_ADRALN); C(BUS_ADRERR); C(BUS_OBJERR); C(BUS_MCEERR_AR); C(BUS_MCEERR_AO);
C(ILL_ILLOPC); C(ILL_ILLOPN); C(ILL_ILLADR); C(ILL_ILLTRP); C(ILL_PRVOPC);
C(ILL_PRVREG); C(TRAP_BRKPT); C(TRAP_TRACE);

/* userfaultfd(2). */
C(UFFD_API); C(UFFDIO_API); C(UFFDIO_REGISTER); C(UFFDIO_UNREGISTER); C(UFFDIO_WAKE);
C(UFFDIO_COPY); C(UFFDIO_ZEROPAGE); C(UFFDIO_WRITEPROTECT); C(UFFDIO_CONTINUE);
C(UFFDIO_REGISTER_MODE_MISSING); C(UFFDIO_REGISTER_MODE_WP);
C(UFFDIO_REGISTER_MODE_MINOR); C(UFFDIO_WRITEPROTECT_MODE_WP);
C(UFFDIO_WRITEPROTECT_MODE_DONTWAKE); C(UFFD_USER_MODE_ONLY);
C(UFFD_FEATURE_PAGEFAULT_FLAG_WP); C(UFFD_FEATURE_EVENT_FORK);
C(UFFD_FEATURE_WP_HUGETLBFS_SHMEM);

/* Error numbers. */
C(EPERM); C(ENOENT); C(ESRCH); C(EINTR); C(EIO); C(ENXIO); C(E2BIG); C(ENOEXEC);
C(EBADF); C(ECHILD); C(EAGAIN); C(ENOMEM); C(EACCES); C(EFAULT); C(ENOTBLK); C(EBUSY);
C(EEXIST); C(EXDEV); C(ENODEV); C(ENOTDIR); C(EISDIR); C(EINVAL); C(ENFILE); C(EMFILE);
C(ENOTTY); C(ETXTBSY); C(EFBIG); C(ENOSPC); C(ESPIPE); C(EROFS); C(EMLINK); C(EPIPE);
C(EDOM); C(ERANGE); C(EDEADLK); C(ENAMETOOLONG); C(ENOLCK); C(ENOSYS); C(ENOTEMPTY);
C(ELOOP); C(ENOMSG); C(EIDRM); C(ECHRNG); C(EL2NSYNC); C(EL3HLT); C(EL3RST); C(ELNRNG);
C(EUNATCH); C(ENOCSI); C(EL2HLT); C(EBADE); C(EBADR); C(EXFULL); C(ENOANO); C(EBADRQC);
C(EBADSLT); C(EBFONT); C(ENOSTR); C(ENODATA); C(ETIME); C(ENOSR); C(ENONET); C(ENOPKG);
C(EREMOTE); C(ENOLINK); C(EADV); C(ESRMNT); C(ECOMM); C(EPROTO); C(EMULTIHOP);
C(EDOTDOT); C(EBADMSG); C(EOVERFLOW); C(ENOTUNIQ); C(EBADFD); C(EREMCHG); C(ELIBACC);
C(ELIBBAD); C(ELIBSCN); C(ELIBMAX); C(ELIBEXEC); C(EILSEQ); C(ERESTART); C(ESTRPIPE);
C(EUSERS); C(ENOTSOCK); C(EDESTADDRREQ); C(EMSGSIZE); C(EPROTOTYPE); C(ENOPROTOOPT);
C(EPROTONOSUPPORT); C(ESOCKTNOSUPPORT); C(EOPNOTSUPP); C(EPFNOSUPPORT); C(EAFNOSUPPORT);
C(EADDRINUSE); C(EADDRNOTAVAIL); C(ENETDOWN); C(ENETUNREACH); C(ENETRESET);
C(ECONNABORTED); C(ECONNRESET); C(ENOBUFS); C(EISCONN); C(ENOTCONN); C(ESHUTDOWN);
C(ETOOMANYREFS); C(ETIMEDOUT); C(ECONNREFUSED); C(EHOSTDOWN); C(EHOSTUNREACH);
C(EALREADY); C(EINPROGRESS); C(ESTALE); C(EUCLEAN); C(ENOTNAM); C(ENAVAIL); C(EISNAM);
C(EREMOTEIO); C(EDQUOT); C(ENOMEDIUM); C(EMEDIUMTYPE); C(ECANCELED); C(ENOKEY);
C(EKEYEXPIRED); C(EKEYREVOKED); C(EKEYREJECTED); C(EOWNERDEAD); C(ENOTRECOVERABLE);
C(ERFKILL); C(EHWPOISON);

/* Newer than some headers; the same on every architecture. */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif
#ifndef __NR_map_shadow_stack
#define __NR_map_shadow_stack 453
#endif
#ifndef __NR_mseal
#define __NR_mseal 462
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_GUARD_REMOVE
#define MADV_GUARD_REMOVE 103
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef PR_MDWE_REFUSE_EXEC_GAIN
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
C(MADV_GUARD_INSTALL); C(MADV_GUARD_REMOVE);
C(__NR_cachestat); C(__NR_map_shadow_stack); C(__NR_mseal); C(PR_SET_MDWE);
C(PR_GET_MDWE); C(PR_MDWE_REFUSE_EXEC_GAIN); C(PR_SET_MEMORY_MERGE);

/* Not everywhere. */
#ifdef MAP_32BIT
C(MAP_32BIT);
#endif
#ifdef MFD_EXEC
C(MFD_EXEC);
#endif
#ifdef MFD_NOEXEC_SEAL
C(MFD_NOEXEC_SEAL);
#endif
#ifdef PROT_BTI
C(PROT_BTI);
#endif
#ifdef PROT_MTE
C(PROT_MTE);
#endif
#ifdef SEGV_CPERR
C(SEGV_CPERR);
#endif
#ifdef UFFDIO_POISON
C(UFFDIO_POISON);
#endif
#ifdef UFFD_FEATURE_WP_ASYNC
C(UFFD_FEATURE_WP_ASYNC);
#endif
#ifdef UFFD_FEATURE_WP_UNPOPULATED
C(UFFD_FEATURE_WP_UNPOPULATED);
#endif
#ifdef __NR_arch_prctl
C(__NR_arch_prctl);
#endif
#ifdef __NR_poll
C(__NR_poll);
#endif
