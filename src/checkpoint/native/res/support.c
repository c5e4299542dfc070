/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine does with everything else than open files, for docs/support.md (a test compares them). */
#include "checkpoint/native/res/res.h"

const struct support_row support_rows[] = {
	{"process", "process tree", "supported",
		"pids, parents, orphans that init or a subreaper has adopted, zombies with their status"},
	{"process", "sessions and groups", "supported", "also those whose leader is dead"},
	{"process", "stopped process", "supported", "stopped again, continues on SIGCONT"},
	{"process", "threads", "supported",
		"ids, names, masks, stacks, robust lists, rseq; working directories and descriptor tables of "
		"their "
		"own"},
	{"process", "dead leader", "supported",
		"threads that go on when the first one has ended; of init, a stopped process or one with "
		"namespaces of its own: refused, and before Linux 6.9"},
	{"process", "registers", "supported",
		"all of xsave; the CPU's features are checked at restore; the permission to use AMX. "
		"Refused, after a second "
		"(--patience): AMX registers that hold something just then. What a signal handler has "
		"interrupted in AMX registers "
		"is lost. Never tried on a machine that has them"},
	{"process", "interrupted system calls", "supported",
		"restarted by the kernel, with the time that was left (poll to a millisecond; a sleep of at "
		"most a tenth of a "
		"second begins anew); epoll_wait, "
		"io_getevents, sigtimedwait, semtimedop and socket time limits begin anew"},
	{"process", "signals", "supported",
		"handlers, masks, alternate stacks, pending ones with their siginfo"},
	{"process", "timers", "supported",
		"itimers and POSIX timers: they expire when the container's clocks show what they would have "
		"shown"},
	{"process", "overruns of a pending timer signal", "lost",
		"the signal comes, its overrun count begins anew"},
	{"process", "root and working directory", "supported",
		"also in /proc of a process that has ended (a browser's sandbox). Refused there: of a "
		"process that "
		"shares the memory of another one, in a pid namespace that several containers have, and if a "
		"session or group of that process is there still"},
	{"process", "credentials", "supported",
		"ids, groups, five capability sets, securebits, no_new_privs"},
	{"process", "seccomp", "supported",
		"strict mode and filters, per thread; with a listener: if that is in the container, closed, "
		"or with the agent of "
		"linux.seccomp.listenerPath, who gets the new one, and all threads of a process have the "
		"same filter"},
	{"process", "rlimits", "supported", ""},
	{"process", "scheduling", "supported",
		"nice, policy (also SCHED_DEADLINE, if the machine still has the time for it), slice, "
		"affinity, "
		"I/O priority; of sessions with a leader that lives the nice value of their autogroup; core "
		"scheduling groups "
		"are refused"},
	{"process", "shared I/O contexts", "lost",
		"CLONE_IO: each process and thread has one of its own after a restore; only the BFQ "
		"scheduler asks for them"},
	{"process", "small attributes", "supported",
		"umask, oom_score_adj, personality, child subreaper, pdeathsig, timer slack, dumpable, THP"},
	{"process", "login", "supported",
		"loginuid, where it is another than init's; the session's number (sessionid) is a new one, "
		"and who is logged in himself and lacks CAP_AUDIT_CONTROL cannot give it"},
	{"process", "traced task", "refused",
		"only one tracer is possible; and of tracers in the container the kernel tells nobody the "
		"options "
		"(PTRACE_SETOPTIONS), nor which stop has been waited for"},
	{"process", "exec session", "supported",
		"after a restore it is a child of init, and its caller has hung up: pipes, terminals (with "
		"SIGHUP)"},
	{"process", "shared process state", "supported",
		"descriptor tables, working directory, root and umask (CLONE_FILES, CLONE_FS), but not of "
		"processes with a label or namespaces of their own, nor where those of others are between "
		"them in the tree"},
	{"process", "shared memory of processes", "supported",
		"CLONE_VM without CLONE_THREAD, and with it CLONE_SIGHAND, CLONE_FILES, CLONE_FS and "
		"CLONE_PARENT in any "
		"mix, threads included. Refused: children of such a one that do not share the memory (also "
		"dead ones), one "
		"that has joined a process group or is in a cgroup other than that of who has made it, "
		"labels and "
		"namespaces of its own, pidfds of it, files of its /proc and signals of files that go to it, "
		"epoll sets that only it has"},
	{"process", "other shared process state", "refused",
		"CLONE_SYSVSEM, where SEM_UNDO is used; "
		"threads that have a root directory "
		"of "
		"their own, or share a table or working directory with others than their process; locks and "
		"epoll sets that only such a thread has; a POSIX lock taken by one who shares the table with "
		"the one that has it"},
	{"process", "exit signals", "supported",
		"children that end with another one than SIGCHLD, or none. A parent that has executed "
		"another "
		"program since gets SIGCHLD, and after a restore the other one again: the kernel does not "
		"show it"},
	{"process", "dead leader's own states", "lost",
		"the signal on its parent's death and the securebits of a first thread that has ended: "
		"nobody "
		"can ask it any more"},
	{"process", "vfork", "supported",
		"a checkpoint waits until the child has executed a program; if that takes a second, it is "
		"refused"},
	{"process", "32-bit program", "supported",
		"of i386: registers, thread-local segments, handlers, robust lists, sleeps. Refused: a "
		"thread of one that runs "
		"64-bit code just then, and the other way round"},
	{"process", "core dumps of 32-bit programs", "lost",
		"after a restore they are in the format of 64-bit programs: that is decided at exec"},
	{"process", "group of resctrl (Intel RDT)", "created",
		"as config.json says; what update changed is lost. Never tried on a machine that has it"},
	{"process", "accounting", "lost",
		"CPU times and fault counts begin at zero; the start time is that of the restore. With "
		"--leave-running RUSAGE_CHILDREN counts a child that had much of the memory"},
	{"process", "LSM label", "supported",
		"AppArmor profiles; SELinux, and threads with different ones: refused"},
	{"process", "Landlock", "refused",
		"domains, whose rules the kernel tells nobody. They cannot be seen on a kernel without BTF, "
		"by an "
		"ordinary user, nor by a stasis in a pid namespace of its own: there they are lost"},
	{"process", "keyrings", "refused",
		"thread and process keyrings, and keys in the session keyring, which are seen only when the "
		"tasks are "
		"stopped: their serial numbers cannot be given again; an empty session keyring is made anew"},
	{"process", "systemd's key", "lost",
		"invocation_id, which a systemd in the container gives its services in session keyrings of "
		"their own, beside "
		"the environment variable: after a restore all are in the container's, which is empty"},
	{"process", "segments", "refused", "local descriptor tables (modify_ldt), which are seen only then"},
	{"process", "other prctl states", "supported",
		"MDWE, TSC and CPUID faulting, memory failures (MCE), memory merging, speculation control, "
		"I/O "
		"flushers"},
	{"process", "membarrier", "supported",
		"what is registered; that for all processes (GLOBAL_EXPEDITED) with Linux 6.3, as older ones "
		"do not show it"},
	{"process", "syscall user dispatch", "supported",
		"with Linux 6.4; older ones do not show it, and it is lost"},
	{"namespace", "time", "supported",
		"CLOCK_MONOTONIC and CLOCK_BOOTTIME go on; CLOCK_REALTIME is the machine's, so it jumps by "
		"the time between: timers that are set "
		"for a time of day fire then, or at once if it has passed"},
	{"namespace", "user", "created", "with the mappings of config.json, which may be others than before"},
	{"namespace", "who may trace", "lost",
		"a process that is not dumpable: after a restore the root of its user namespace may not"},
	{"namespace", "shared user", "supported",
		"the user namespace of others: which one, says config.json at the restore. Together with a "
		"shared pid "
		"namespace only if the container that has made that one is restored from the same image"},
	{"namespace", "nested", "supported",
		"uts, user, pid, mount, network, ipc, cgroup and time namespaces that the container's "
		"processes made, one in another, also those that belong to their user namespaces (unshare "
		"-Ur, bwrap): locked mounts come "
		"back locked; clocks of time namespaces are as far from the container's as before; what is "
		"mapped comes by the container's own mounts; a proc of a nested pid namespace, which comes "
		"last in the list of mounts; what lies on such a proc, too; an ipc namespace with its "
		"objects, its sysctls and mounts that show its queues; sysfs of a network namespace; cgroup "
		"namespaces, also those whose root is a sub-cgroup; network, uts, ipc, user and cgroup "
		"namespaces "
		"in which no process is, held by a mount (ip netns add) or a descriptor; network namespaces "
		"with "
		"packet filters, and with veth pairs between them and to the container's own; no TCP "
		"connections in them"},
	{"namespace", "other nested", "refused",
		"a time namespace for children only that belongs to a nested user namespace; threads in "
		"others than their process; those of the container's init; in a pid namespace that belongs "
		"to "
		"a nested user namespace: more priority than usual; in a "
		"mount namespace that does: overlays, shared mounts; files of a proc "
		"of a nested pid namespace; ids of projects; a process "
		"that entered a nested pid namespace by setns; a segment that is attached by a process which "
		"has "
		"gone to another ipc namespace since, and mq_notify in a nested one; without a process in "
		"it: "
		"mount, pid and time namespaces, those of a socket only, messages in POSIX queues, cgroup "
		"namespaces of a sub-cgroup; with a process: one whose root has controllers for its children "
		"(version 2), or is "
		"outside of the container; mounts "
		"that "
		"hold mount, pid and time "
		"namespaces; what outside has mounted or is in"},
	{"namespace", "pid of a sandbox", "supported",
		"one that a container of the sandbox has made and others have joined "
		"(shareProcessNamespace), if all "
		"are checkpointed together: pids, and orphans whom its first process has adopted. Refused: "
		"without "
		"cgroups; a session or group over several containers; orphans that are stopped; zombies of "
		"another "
		"container that nobody waits for; pidfds, /proc/PID and F_SETOWN of another container's "
		"process"},
	{"namespace", "shared pid", "refused",
		"another pid namespace of others, and one container alone of those that share one"},
	{"namespace", "network", "supported",
		"veth pairs, bridges with their VLANs and permanent multicast groups, vlan, macvlan, "
		"macvtap, ipvlan, tunnels (ipip, sit, gre, gretap, ip6tnl, ip6gre), vxlan, dummy, ifb, vrf, "
		"tun and tap; addresses, address labels of IPv6, "
		"nexthop objects, "
		"routes, rules, permanent neighbours, static forwarding entries, endpoints and limits of "
		"MPTCP, "
		"the sysctls of interfaces. "
		"Other kinds (bond, team, wireguard, macsec, ...), external tunnels, multicast options and "
		"spanning trees of "
		"single "
		"VLANs, and IPsec are refused. A "
		"state UNKNOWN of ipvlan is UP afterwards"},
	{"namespace", "traffic control", "supported",
		"queueing disciplines that have a handle: pfifo, bfifo, pfifo_fast, prio, tbf, htb with its "
		"classes, sfq, fq, fq_codel, codel, netem, mq, noqueue, ingress and clsact; filters: u32, "
		"matchall, flower and fw; actions: gact, mirred, police, skbedit and vlan. A restore reads "
		"back what it has made. Other kinds are refused, BPF among them; delays of netem that vary, "
		"tables of sizes, estimators, shared blocks, actions that no filter has, VLANs in flower, "
		"and u32 where "
		"the kernel would number its tables in another way. What waits in a queue is lost, and "
		"counts begin anew; chains with templates are plain ones"},
	{"namespace", "packet filters", "supported",
		"nftables, and iptables that lie on it: tables, chains, rules, sets, maps, elements with the "
		"time that they have "
		"left, objects, flow tables, counts, handles (not those of tables); not what is counted out "
		"of sight: "
		"limits begin anew. Refused: iptables-legacy, ipsets, tables with an owner, "
		"rules that name cgroups, the match \"recent\""},
	{"namespace", "tracked connections", "lost",
		"flows of connections through NAT or flow tables: they are tracked anew; refused where a "
		"connection of "
		"the container's goes through NAT"},
	{"namespace", "filters of tun and tap", "lost",
		"TUNSETTXFILTER and BPF programs that steer packets to queues: they cannot be read. Packets "
		"that wait in a "
		"queue, too. Other filters, and offloads that were asked for, are refused"},
	{"namespace", "interfaces from outside", "created",
		"by linux.netDevices or hooks, with what these give them; or a veth with restore "
		"--veth-pair, with what it "
		"had. Else the restore fails and says so"},
	{"namespace", "bridges with a random address", "lost",
		"that it is one: it counts as given, so one without ports loses its carrier"},
	{"namespace", "learned neighbours", "lost",
		"as entries of the ARP cache and of bridges, which come and go"},
	{"namespace", "rare state of the network", "lost",
		"this version does not look for it: IPVS, MPLS and multicast routes, the "
		"order in which base chains of different "
		"tables with one hook and priority were made, the header size of a tap that nobody holds"},
	{"namespace", "sysctls of the network", "supported",
		"where the container could write them: with a /proc/sys that is not read-only"},
	{"namespace", "other sysctls", "created",
		"as config.json says; what was changed later is lost: user.max_*, vm.memfd_noexec, "
		"kernel.pid_max "
		"where the kernel has one for each pid namespace (6.14)"},
	{"namespace", "System V IPC", "supported",
		"segments, semaphores with SEM_UNDO, message queues: ids, keys, owners, modes, contents; "
		"in a namespace of others: refused if attached or used with SEM_UNDO"},
	{"namespace", "times of System V IPC", "lost",
		"when and by whom an object was last used; ids that new objects will get"},
	{"namespace", "System V IPC of a sandbox", "supported",
		"segments, semaphores, SEM_UNDO, messages and POSIX queues in an ipc namespace that "
		"containers of a "
		"sandbox "
		"share, when they are checkpointed together; its sysctls as they were, if a container that "
		"may set them is among these"},
	{"namespace", "ipc sysctls", "supported", "also what the container has changed"},
	{"container", "cgroup", "created",
		"limits as config.json says (--manage-cgroups-mode full: as they were), counters at zero"},
	{"container", "sub-cgroups", "supported",
		"nested, with limits, owners and processes; processes with threads in several, frozen ones "
		"and those "
		"with BPF programs: refused"},
	{"container", "container of an ordinary user", "supported",
		"by that user; without a cgroup the tasks stop one after the other. Refused: seccomp "
		"filters besides the container's own, or that forbid calls which a checkpoint makes, mapped "
		"files that are neither at their path nor open, System V segments, terminals in exclusive "
		"mode; a "
		"process that is not dumpable the "
		"second time. Sleeps "
		"without a remainder begin anew, memory that relatives shared after a fork is each one's "
		"own, "
		"and a checkpoint fills the holes of shared anonymous memory"},
	{"container", "files of the rootfs and of volumes", "kept outside",
		"not part of the image: they stay where they are"},
	{"mount", "mounts of config.json", "created", ""},
	{"mount", "tmpfs contents", "supported", "files, links, nodes, owners, times, extended attributes"},
	{"mount", "volumes in memory", "supported",
		"of a sandbox: tmpfs mounts that its containers have been given, /dev/shm among them; put "
		"back where "
		"they are empty. Read-only ones, those of the machine, and of a container alone: kept "
		"outside"},
	{"mount", "mounts made by the container", "supported",
		"tmpfs, proc, sysfs, devpts, mqueue, cgroup, overlay, binds, moves, flags, propagation, "
		"pivot_root; those that hold a namespace (nsfs)"},
	{"mount", "other mounts", "refused",
		"of other types; of deleted directories; in a user namespace a tmpfs that is covered "
		"by another mount; parts of "
		"file "
		"systems that are mounted nowhere as a whole; files in detached mounts"},
	{"memory", "private memory", "supported",
		"anonymous and of files, PROT_NONE, growing stacks, brk, names"},
	{"memory", "private memory, restored lazily", "supported",
		"restore --lazy: anonymous memory comes while the program runs; until all is there a core "
		"dump "
		"lacks what is missing, and MADV_WIPEONFORK that is set on what is missing is not noticed, "
		"nor "
		"guard regions that a child which was forked meanwhile sets there"},
	{"memory", "pages shared after fork", "supported",
		"once in the image, and shared again; merged ones (KSM) come back apart"},
	{"memory", "shared anonymous memory", "supported", ""},
	{"memory", "file mappings", "supported", "also of deleted files and memfds"},
	{"memory", "droppable memory", "supported", "comes back as zeros, which it may turn to at any time"},
	{"memory", "vdso", "supported", "mapped anew by the kernel at its address"},
	{"memory", "advice and locks", "supported", "madvise, mlock, mlock2, mlockall, mseal, guard regions"},
	{"memory", "hugetlb", "supported",
		"huge pages of the pool: private, shared, memfds, System V, files of mounts from outside, "
		"unlinked ones. The machine needs as many free; pieces of a larger private mapping have "
		"offset 0 "
		"in "
		"/proc/PID/maps. Refused: other files on a hugetlbfs of config.json, segments attached in "
		"part"},
	{"memory", "userfaultfd", "refused",
		"memory that one is registered for: the kernel does not tell which it is. While memory is "
		"watched "
		"for a pre-dump, a program cannot register that memory itself (EBUSY), and a mapping that "
		"grows by another one beside it stays two"},
	{"memory", "pre-copy", "supported",
		"--pre-dump, --parent-path, --pre-copy: private anonymous memory with 4 KiB or transparent "
		"huge "
		"pages is copied only if it has been written since (Linux 6.7, as root); memory that was "
		"mapped, moved or inherited since, shared memory, hugetlb and contents of files as a whole. "
		"With --dedup what the parent has is not stored again"},
	{"memory", "System V shared memory", "supported", "attached, also for reading only, removed, locked"},
	{"memory", "shadow stack", "refused",
		"user shadow stacks (CET) can only be written by the CPU itself; no machine here has them"},
	{"memory", "aio", "supported",
		"rings of Linux AIO (io_setup), with events that have not been read; it is waited for "
		"requests in "
		"flight. Refused: "
		"such as wait for something to happen (IOCB_CMD_POLL), rings inherited by a fork, of 32-bit "
		"programs, of an ordinary user, or on a "
		"kernel without BTF. A machine with more CPUs may not be able to make one as small"},
	{"memory", "device memory", "refused",
		"mappings of devices and of raw page frames: a copy would not be the device"},
	{"memory", "mapping", "refused", "of any other kind, or with a flag that this version does not know"},
	{"memory", "protection keys", "supported",
		"which are allocated, those of mappings, what each thread may do; a thread that must not use "
		"memory "
		"without a key when it is stopped: refused"},
	{"memory", "NUMA policy", "supported", "set_mempolicy of threads and mbind of mappings"},
	{"file", "between containers of a sandbox", "supported",
		"when they are checkpointed together: FIFOs, pipes, TCP connections, unix sockets in one "
		"network "
		"namespace "
		"(pairs, connected by name, not accepted yet, datagrams), deleted files and memfds that "
		"several have or map, "
		"descriptors "
		"that were passed (of pipes, files, memfds, eventfds, timerfds)"},
	{"file", "passed descriptors of an ordinary user", "lost",
		"whether containers with user namespaces of their own have the same description (kcmp) "
		"nobody tells "
		"him: "
		"each has one of its own after a restore"},
	{"file", "other things between containers", "refused",
		"passed descriptors of other kinds, unix sockets between network namespaces; anything of it "
		"in "
		"the checkpoint of a container alone"},
	{"file", "file lock", "supported",
		"flock, POSIX and OFD locks, leases; with --file-locks, unless only the container can reach "
		"the file"},
	{"file", "dnotify", "supported",
		"directories with F_NOTIFY. Refused: a watch of a thread with a descriptor table of its own, "
		"of an "
		"ordinary user's container, or on a kernel without BTF. A watch whose signals go to nobody "
		"any more is "
		"lost"},
	{"file", "advice and write hints", "lost",
		"posix_fadvise and readahead, which the kernel does not show; F_SET_RW_HINT of files that "
		"are made anew "
		"(deleted ones, memfds)"},
	{"file", "POSIX locks on what has no path", "lost",
		"as pipes and sockets; nobody is known to take them"},
	{"file", "empty datagrams in a second image", "lost",
		"that wait unread in a socket since an earlier checkpoint which left the container running: "
		"the kernel hides them"},
	{"file", "terminal state that nobody can read", "lost",
		"the column of the cursor, by which tabs are expanded; echoes that stopped output holds "
		"back; what "
		"was typed into a terminal that nobody has opened yet, or is half a line in the console of a "
		"container of an ordinary user"},
	{"file", "socket state that nobody can read", "lost",
		"order and programs of a SO_REUSEPORT group; options that can only be set: "
		"SO_BUSY_POLL_BUDGET, "
		"SO_INQ, IPV6_MTU, IPV6_NEXTHOP, IPV6_PKTINFO, flow labels, an interface for multicast that "
		"was "
		"given by number only (IPv4)"},
	{"file", "TCP connections without a descriptor", "lost",
		"in TIME_WAIT, still in the handshake, or closed by the program while there was data to "
		"send to a peer elsewhere; until a peer in the container's own network has all of it, a "
		"checkpoint with --tcp-established waits, or is refused"},
};
const size_t support_rows_len = ARRAY_SIZE(support_rows);

void support_print(FILE *out)
{
	for (size_t i = 0; i < support_rows_len; i++)
		fprintf(out, "%s\t%s\t%s\t%s\n", support_rows[i].group, support_rows[i].kind,
			support_rows[i].native, support_rows[i].note);
	for (size_t i = 0; i < resource_table_len; i++) {
		const struct resource *r = resource_table[i];

		fprintf(out, "file\t%s\t%s\t%s%s%s\n", r->kind, r->refused_reason ? "refused" : "supported",
			r->description, r->refused_reason ? ": " : "",
			r->refused_reason ? r->refused_reason : "");
	}
}
