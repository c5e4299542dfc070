/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo terminals of the container's own devpts: masters, slaves, and /dev/tty, which is opened by its own name but is the
 * terminal of the opener's session. A pair is one Pty message, whichever of its ends are open; the container's console is
 * one whose master is outside. What waits in it is taken out and put back at once (linux/tty-data.h); while it is out it
 * is in the journal.
 */
#include <linux/openat2.h>
#include <linux/tty.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/ttys.h"

#define DEVPTS_MAGIC 0x1cd1
#define TCGETS2_NR 0x802c542a
#define TIOCGDEV_NR 0x80045432
#define TIOCGLCKTRMIOS_NR 0x5456
/* So much typed ahead may wait in a console: more might go on flowing in while it is taken. */
enum { MAX_TYPED_AHEAD = 2048 };

struct dump_pty {
	dev_t dev; /* of the devpts instance */
	int index;
	const char *ptmx, *node; /* arena */
	uint64_t master, slave;	 /* File ids of the master and of one slave; 0: not open in the container */
	bool console, hung_up;
	bool abandoned;		   /* of an exec session: hangs up at the restore */
	pid_t session, foreground; /* as the host sees them */
	St__Pty *msg;
};

static bool is_slave(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && major(st->st_rdev) >= 136 && major(st->st_rdev) <= 143;
}

static bool is_char(const struct dump_file *f, unsigned ma, unsigned mi)
{
	return S_ISCHR(f->st.st_mode) && f->st.st_rdev == makedev(ma, mi) && !(f->info.flags & O_PATH);
}

static bool match_slave(const struct dump *d, const struct dump_file *f)
{
	return is_slave(&f->st) && !(f->info.flags & O_PATH) && f->link[0] == '/';
}

static bool match_master(const struct dump *d, const struct dump_file *f)
{
	return is_char(f, 5, 2) && f->link[0] == '/';
}

static bool match_controlling(const struct dump *d, const struct dump_file *f)
{
	return is_char(f, 5, 0) && f->link[0] == '/';
}

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "terminals");
}

/* ---- finding them ---- */

static struct dump_pty *find(const struct dump *d, dev_t dev, int index)
{
	for (size_t i = 0; i < d->n_ptys; i++)
		if (d->ptys[i].dev == dev && d->ptys[i].index == index)
			return &d->ptys[i];
	return NULL;
}

/* There is room for all: see find_ptys(). */
static struct dump_pty *find_or_add(struct dump *d, dev_t dev, int index)
{
	struct dump_pty *p = find(d, dev, index);

	if (p)
		return p;
	p = &d->ptys[d->n_ptys++];
	*p = (struct dump_pty){.dev = dev, .index = index};
	return p;
}

static int open_inside(const struct dump *d, const char *path, int flags)
{
	struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	int fd = syscall(SYS_openat2, d->root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static bool is_devpts(const struct dump *d, const char *dir, struct stat *st)
{
	_cleanup_close_ int fd = open_inside(d, dir, O_PATH | O_DIRECTORY);
	struct statfs fs;

	return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == DEVPTS_MAGIC && fstat(fd, st) == 0;
}

/* The kernel's rule: a ptmx makes pairs of the devpts that it lies in, or else of that in "pts" beside it. */
static const char *devpts_of(struct dump *d, const char *ptmx, struct stat *st)
{
	const char *slash = strrchr(ptmx, '/');
	const char *dir = arena_strndup(&d->arena, ptmx, slash - ptmx);

	if (!dir || is_devpts(d, dir, st))
		return dir;
	dir = arena_printf(&d->arena, "%s/pts", dir);
	return dir && is_devpts(d, dir, st) ? dir : NULL;
}

static int add_master(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = dump_duplicate(f);
	struct dump_pty *p;
	const char *dir;
	struct stat st;
	int index;

	if (fd < 0)
		return 0; /* closed meanwhile */
	dir = devpts_of(d, f->link, &st);
	if (!dir || ioctl(fd, TIOCGPTN, &index) < 0) {
		dump_refuse(d, f->proc, f->fd, "terminal", "its devpts is no longer mounted where it was",
			"close it first", "%s", f->link);
		return 0;
	}
	p = find_or_add(d, st.st_dev, index);
	p->master = f->id;
	p->ptmx = f->link;
	p->node = arena_printf(&d->arena, "%s/%d", dir, index);
	return p->node ? 0 : no_memory(e);
}

static int add_slave(struct dump *d, struct dump_file *f, struct error *e)
{
	static const char deleted[] = " (deleted)";
	_cleanup_close_ int fd = dump_duplicate(f);
	struct dump_pty *p = find_or_add(d, f->st.st_dev, minor(f->st.st_rdev));
	size_t n = strlen(f->link);
	struct winsize size;

	if (fd >= 0)
		p->hung_up = ioctl(fd, TIOCGWINSZ, &size) < 0 && errno == EIO;
	p->slave = f->id;
	if (p->node && p->ptmx)
		return 0;
	if (p->hung_up && n > sizeof(deleted) && !strcmp(f->link + n - sizeof(deleted) + 1, deleted))
		n -= sizeof(deleted) - 1;
	p->node = arena_strndup(&d->arena, f->link, n);
	if (p->node)
		p->ptmx =
			arena_printf(&d->arena, "%.*s/ptmx", (int)(strrchr(p->node, '/') - p->node), p->node);
	return p->ptmx ? 0 : no_memory(e);
}

/* The console that create has made: the first of the container's devpts. */
static int add_console(struct dump *d, struct error *e)
{
	const struct spec *s = d->c->spec;
	struct dump_pty *p;
	struct stat st;
	int index;

	if (!s || !s->process || !s->process->terminal || !d->c->stdio[0] ||
		sscanf(d->c->stdio[0], "/dev/pts/%d", &index) != 1 || !is_devpts(d, "/dev/pts", &st))
		return 0;
	p = find_or_add(d, st.st_dev, index);
	p->console = true;
	p->ptmx = "/dev/pts/ptmx";
	p->node = d->c->stdio[0];
	return 0;
}

static int find_ptys(struct dump *d, size_t n_files, struct error *e)
{
	int r;

	d->n_ptys = 0;
	d->ptys = arena_array(&d->arena, n_files + 1, sizeof(*d->ptys));
	if (!d->ptys)
		return no_memory(e);
	r = add_console(d, e);
	for (size_t i = 0; i < d->n_files && r == 0; i++) {
		struct dump_file *f = &d->files[i];

		if (!f->resource)
			continue;
		if (f->resource->match == match_master)
			r = add_master(d, f, e);
		else if (f->resource->match == match_slave)
			r = add_slave(d, f, e);
	}
	return r;
}

/* ---- sessions ---- */

static const struct dump_proc *leader_of(const struct dump *d, pid_t session)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == session && !d->procs[i].zombie)
			return &d->procs[i];
	return NULL;
}

static int duplicate(struct dump *d, uint64_t file)
{
	const struct dump_file *f = file ? dump_file_by_id(d, file) : NULL;

	return f ? dump_duplicate(f) : -EBADF;
}

static void ask_master(struct dump *d, struct dump_pty *p)
{
	_cleanup_close_ int fd = duplicate(d, p->master);

	if (fd < 0 || ioctl(fd, TIOCGSID, &p->session) < 0 || ioctl(fd, TIOCGPGRP, &p->foreground) < 0)
		p->session = p->foreground = 0;
}

/* A session's leader always has its terminal. Where no master tells, the number does. */
static void match_session(struct dump *d, const struct dump_proc *leader)
{
	struct dump_pty *found = NULL;

	for (size_t i = 0; i < d->n_ptys; i++)
		if (d->ptys[i].session == leader->pid)
			return;
	for (size_t i = 0; i < d->n_ptys; i++)
		if (!d->ptys[i].master && !d->ptys[i].hung_up && !d->ptys[i].session &&
			makedev(136, d->ptys[i].index) == (dev_t)leader->stat.tty_nr)
			found = &d->ptys[i];
	if (!found && leader->by_exec)
		return;
	if (!found) {
		dump_refuse(d, leader, -1, "terminal",
			"its session's controlling terminal was opened outside of the container",
			"end that session first", "session %d", leader->ns_pid);
		return;
	}
	found->session = leader->pid;
	found->foreground = MAX(leader->stat.tpgid, 0);
}

static void find_sessions(struct dump *d)
{
	for (size_t i = 0; i < d->n_ptys; i++)
		if (d->ptys[i].master && !d->ptys[i].hung_up)
			ask_master(d, &d->ptys[i]);
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].stat.session == d->procs[i].pid && d->procs[i].stat.tty_nr &&
			!d->procs[i].zombie)
			match_session(d, &d->procs[i]);
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *leader = leader_of(d, d->procs[i].stat.session);

		if (d->procs[i].msg && !d->procs[i].zombie && leader && leader->stat.tty_nr)
			d->procs[i].msg->no_terminal = d->procs[i].stat.tty_nr == 0;
	}
}

/* ---- obstacles ---- */

static void refuse(struct dump *d, const struct dump_pty *p, const char *reason, const char *remedy)
{
	const struct dump_file *f = dump_file_by_id(d, p->master ? p->master : p->slave);

	dump_refuse(d, f ? f->proc : NULL, f ? f->fd : -1, "terminal", reason, remedy, "%s", p->node);
}

static void refuse_outside(struct dump *d, const struct dump_pty *p, const char *reason, const char *remedy)
{
	if (!dump_has_changed(d))
		refuse(d, p, reason, remedy);
}

/* The settings are the pair's, told by either end; the line discipline is each end's own. */
static void check_settings(struct dump *d, const struct dump_pty *p, uint64_t file)
{
	_cleanup_close_ int fd = duplicate(d, file);
	uint32_t termios[11], locks[16] = {};
	int discipline = 0;

	if (fd < 0)
		return;
	if (ioctl(fd, TIOCGETD, &discipline) == 0 && discipline != N_TTY)
		refuse(d, p, "its line discipline is not the one of terminals (N_TTY)",
			"end the program that has set it, such as pppd or slattach");
	if (ioctl(fd, TCGETS2_NR, termios) == 0 && (termios[3] & 0200000 /* EXTPROC */))
		refuse(d, p, "its line editing is done elsewhere (EXTPROC)", "end that session first");
	if (ioctl(fd, TIOCGLCKTRMIOS_NR, locks) == 0)
		for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
			if (i < 9 && locks[i]) {
				refuse(d, p, "its settings are locked (TIOCSLCKTRMIOS)", "unlock them first");
				break;
			}
}

static void check_master(struct dump *d, const struct dump_pty *p)
{
	_cleanup_close_ int fd = duplicate(d, p->master);
	struct pollfd poll_fd = {.fd = fd, .events = POLLPRI};

	if (fd >= 0 && poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLPRI))
		refuse(d, p, "a change of its state that packet mode tells (TIOCPKT) has not been read yet",
			REMEDY_READ);
}

/* What was taken out of a console is put back by TIOCSTI, which wants root's privilege outside of any user namespace. */
static bool may_type(void)
{
	char map[128];
	unsigned inside = 1, outside = 1, n = 0;

	return geteuid() == 0 && read_small_file_at(AT_FDCWD, "/proc/self/uid_map", map, sizeof(map)) > 0 &&
	       sscanf(map, "%u %u %u", &inside, &outside, &n) == 3 && inside == 0 && outside == 0 &&
	       n == UINT32_MAX;
}

static void check_console(struct dump *d, const struct dump_pty *p)
{
	_cleanup_close_ int fd = open_inside(d, p->node, O_RDWR | O_NOCTTY | O_NONBLOCK);
	int typed = 0;

	if (fd >= 0 && ioctl(fd, FIONREAD, &typed) == 0 && typed > (may_type() ? MAX_TYPED_AHEAD : 0))
		refuse(d, p,
			"more has been typed ahead than could be put back (by others than root, nothing)",
			REMEDY_READ);
}

static void check_pty(struct dump *d, struct dump_pty *p)
{
	struct stat host;

	if (p->index > TTY_MAX_INDEX)
		refuse(d, p, "its number is too high", "close other terminals first");
	if (stat("/dev/pts", &host) == 0 && host.st_dev == p->dev)
		refuse(d, p, "it is one of the host's, whose numbers are not the container's",
			"let config.json mount a devpts of the container's own");
	if (p->hung_up)
		return;
	if (p->console)
		check_console(d, p);
	else if (!p->master && dump_file_by_id(d, p->slave)->proc->by_exec)
		p->abandoned = true;
	else if (!p->master)
		refuse_outside(d, p, "its master is open outside of the container only",
			"end that session (exec --tty) first");
	if (p->master) {
		check_master(d, p);
		check_settings(d, p, p->master);
	}
	if (p->slave)
		check_settings(d, p, p->slave);
}

/* /dev/tty: which terminal it was, the number tells, unless there are several instances of devpts. NULL: unclear. */
static struct dump_pty *controlling(struct dump *d, const struct dump_file *f)
{
	_cleanup_close_ int fd = dump_duplicate(f);
	struct dump_pty *found = NULL;
	unsigned dev;

	if (fd < 0 || ioctl(fd, TIOCGDEV_NR, &dev) < 0)
		return NULL;
	for (size_t i = 0; i < d->n_ptys; i++) {
		if (d->ptys[i].hung_up || makedev(136, d->ptys[i].index) != (dev_t)dev)
			continue;
		if (found)
			return NULL;
		found = &d->ptys[i];
	}
	return found;
}

static int check_controlling(struct dump *d, struct dump_file *f, struct error *e)
{
	int r = d->ptys ? 0 : find_ptys(d, d->n_files, e);

	if (r == 0 && !controlling(d, f))
		dump_refuse(d, f->proc, f->fd, "terminal",
			"which terminal of the container it leads to is not clear, or it has hung up",
			"close it first", "%s", f->link);
	return r;
}

int dump_check_ttys(struct dump *d, struct error *e)
{
	bool terminal = d->c->spec && d->c->spec->process && d->c->spec->process->terminal;
	size_t n_files = 0;
	int r = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		terminal |= d->procs[i].stat.tty_nr != 0 && !d->procs[i].zombie;
	for (size_t i = 0; i < d->n_files; i++)
		n_files += d->files[i].resource && (d->files[i].resource->match == match_master ||
							   d->files[i].resource->match == match_slave);
	if (!terminal && n_files == 0)
		return 0;
	if (!d->ptys)
		r = find_ptys(d, n_files, e);
	if (r < 0)
		return r;
	find_sessions(d);
	for (size_t i = 0; i < d->n_ptys; i++)
		check_pty(d, &d->ptys[i]);
	return 0;
}

/* ---- dump ---- */

static int32_t group_in_container(const struct dump *d, pid_t pgrp)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].stat.pgrp == pgrp)
			return d->procs[i].msg->pgid;
	return pgrp ? TTY_GROUP_IS_GONE : 0;
}

/* In a pid namespace of the container's own a group that nobody leads any more has a number that is not known. */
static bool is_group_unknown(const struct dump *d, const struct dump_proc *leader, int32_t group)
{
	if (leader->own_pid == leader->ns_pid || group == 0)
		return false;
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].ns_pid == group)
			return false;
	return true;
}

/* Mode and owner of the node, settings and size: of the pair, by either end. */
static int describe(struct dump *d, struct dump_pty *p, int fd, struct error *e)
{
	_cleanup_close_ int node = open_inside(d, p->node, O_PATH);
	struct stat st;
	St__Pty *m = p->msg;

	if (node < 0 || fstat(node, &st) < 0 || st.st_rdev != makedev(136, p->index))
		return error_set(e, -ESTALE, ERROR_REFUSED,
			"cannot checkpoint: %s is not the terminal any more", p->node);
	m->mode = st.st_mode & 07777;
	m->uid = dump_uid(d, st.st_uid);
	m->gid = dump_gid(d, st.st_gid);
	m->termios.data = arena_alloc(&d->arena, TTY_TERMIOS);
	m->winsize.data = arena_alloc(&d->arena, sizeof(struct winsize));
	if (!m->termios.data || !m->winsize.data)
		return no_memory(e);
	m->termios.len = TTY_TERMIOS;
	m->winsize.len = sizeof(struct winsize);
	if (ioctl(fd, TCGETS2_NR, m->termios.data) < 0 || ioctl(fd, TIOCGWINSZ, m->winsize.data) < 0)
		return error_errno(e, -errno, "settings of %s", p->node);
	return 0;
}

static int keep_data(struct dump *d, const struct tty_data *t, St__Pty *m)
{
	struct arena *a = &d->arena;

	m->stopped = t->stop;
	m->lines = arena_array(a, t->n_lines, sizeof(*m->lines));
	m->input.data = arena_memdup(a, t->input, t->n_input);
	m->raw.data = arena_memdup(a, t->raw, t->n_raw);
	m->output.data = arena_memdup(a, t->output, t->n_output);
	if (!m->lines || !m->input.data || !m->raw.data || !m->output.data)
		return -ENOMEM;
	m->n_lines = t->n_lines;
	for (uint32_t i = 0; i < t->n_lines; i++)
		m->lines[i] = t->lines[i];
	m->input.len = t->n_input;
	m->raw.len = t->n_raw;
	m->output.len = t->n_output;
	return 0;
}

/* One by which the guard reaches it; the console may be open as stdio only. */
static const struct dump_file *any_file(const struct dump *d, const struct dump_pty *p)
{
	for (size_t i = 0; i < d->n_files; i++) {
		const struct dump_file *f = &d->files[i];

		if (f->id == p->master || (f->fd >= 0 && f->st.st_dev == p->dev && is_slave(&f->st) &&
						  (int)minor(f->st.st_rdev) == p->index))
			return f;
	}
	return NULL;
}

/* Out and in again, whatever happens; the guard does the second if we die between. */
static int data(struct dump *d, struct dump_pty *p, int slave, int master, struct error *e)
{
	struct dump_tty_journal *j = &d->journal->tty;
	const struct dump_file *any = any_file(d, p), *m = dump_file_by_id(d, p->master);
	int r, back, kept = 0;

	j->pid = any ? any->proc->shown : 0;
	j->fd = any ? any->fd : -1;
	j->master_pid = m ? m->proc->shown : 0;
	j->master_fd = m ? m->fd : -1;
	__atomic_store_n(&j->taken, true, __ATOMIC_SEQ_CST);
	r = tty_take(slave, master, &j->data);
	if (r == 0)
		r = fault_point("checkpoint-terminal", e);
	if (r == 0)
		kept = keep_data(d, &j->data, p->msg);
	back = tty_put(slave, master, &j->data);
	__atomic_store_n(&j->taken, false, __ATOMIC_SEQ_CST);
	if (r < 0 && e->code != r)
		error_errno(e, r, "take what waits in %s", p->node);
	if (r == 0 && kept < 0)
		r = error_errno(e, kept, "what waits in %s", p->node);
	return r < 0 || back == 0 ? r : error_errno(e, back, "put back what waits in %s", p->node);
}

static int flags(struct dump_pty *p, int slave, int master, struct error *e)
{
	int locked = 0, packet = 0, exclusive = 0, exclusive_master = 0;

	if ((slave >= 0 && ioctl(slave, TIOCGEXCL, &exclusive) < 0) ||
		(master >= 0 &&
			(ioctl(master, TIOCGPTLCK, &locked) < 0 || ioctl(master, TIOCGPKT, &packet) < 0 ||
				ioctl(master, TIOCGEXCL, &exclusive_master) < 0)))
		return error_errno(e, -errno, "state of %s", p->node);
	p->msg->locked = locked;
	p->msg->packet = packet;
	p->msg->exclusive = exclusive;
	p->msg->exclusive_master = exclusive_master;
	return 0;
}

/* Has nobody opened the slave yet? Its last close shows as a hang-up of the master. */
static bool is_unused(const struct dump_pty *p, int master)
{
	struct pollfd poll_fd = {.fd = master};

	return master >= 0 && !p->slave && poll(&poll_fd, 1, 0) == 0;
}

/* Its other end is not there after a restore: who would be told of that, is. */
static int abandon(struct dump *d, struct dump_pty *p, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_procs && r == 0; i++)
		if (p->session && !d->procs[i].zombie &&
			(d->procs[i].pid == p->session ||
				(p->foreground && d->procs[i].stat.pgrp == p->foreground)))
			r = dump_hang_up(d, &d->procs[i], e);
	return r;
}

static int dump_pty(struct dump *d, struct dump_pty *p, struct error *e)
{
	_cleanup_close_ int master = duplicate(d, p->master), slave = -EBADF;
	const struct dump_proc *leader = leader_of(d, p->session);
	int r;

	if (p->abandoned)
		return abandon(d, p, e);
	p->msg->session = leader ? leader->ns_pid : 0;
	p->msg->foreground = leader ? group_in_container(d, p->foreground) : 0;
	if (leader && is_group_unknown(d, leader, p->msg->foreground))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"the foreground group of %s, in a nested pid namespace, has no leader any more: end "
			"it, then "
			"checkpoint",
			p->node);
	if (p->hung_up)
		return 0;
	p->msg->unused = is_unused(p, master);
	if (p->console)
		slave = open_inside(d, p->node, O_RDWR | O_NOCTTY | O_NONBLOCK);
	else if (!p->msg->unused)
		slave = tty_open_slave_of(master, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (slave < 0 && p->console)
		return 0; /* its other end is gone, and the restore makes a new one */
	if (slave < 0 && !p->msg->unused)
		return error_errno(e, slave, "open %s", p->node);
	r = describe(d, p, slave >= 0 ? slave : master, e);
	if (r == 0)
		r = flags(p, slave, master, e);
	if (r < 0 || slave < 0 || (p->console && !may_type()))
		return r;
	return data(d, p, slave, master, e);
}

int dump_ttys(struct dump *d, struct error *e)
{
	St__Container *c = d->container;
	int r = 0;

	if (d->n_ptys == 0)
		return 0;
	c->ptys = arena_array(&d->arena, d->n_ptys, sizeof(*c->ptys));
	if (!c->ptys)
		return no_memory(e);
	for (size_t i = 0; i < d->n_ptys && r == 0; i++) {
		struct dump_pty *p = &d->ptys[i];

		p->msg = pb_new(&d->arena, Pty, pty);
		if (!p->msg)
			return no_memory(e);
		p->msg->id = i + 1;
		p->msg->index = p->index;
		p->msg->console = p->console;
		p->msg->hung_up = p->hung_up || p->abandoned;
		p->msg->ptmx = (char *)p->ptmx;
		p->msg->node = (char *)p->node;
		r = dump_pty(d, p, e);
		c->ptys[c->n_ptys++] = p->msg;
	}
	return r;
}

/* The tasks run on by themselves; what they wrote meanwhile comes before what is put back. */
void dump_undo_ttys(struct dump_tty_journal *j)
{
	_cleanup_close_ int pidfd = j->taken ? dump_open_pidfd(j->pid) : -EBADF, any = -EBADF,
			    master = -EBADF, slave = -EBADF;

	if (pidfd < 0)
		return;
	any = syscall(SYS_pidfd_getfd, pidfd, j->fd, 0);
	if (j->master_pid) {
		_cleanup_close_ int of_master = dump_open_pidfd(j->master_pid);

		master = of_master < 0 ? -EBADF : (int)syscall(SYS_pidfd_getfd, of_master, j->master_fd, 0);
	}
	slave = master >= 0 ? tty_open_slave_of(master, O_RDWR | O_NONBLOCK | O_CLOEXEC)
			    : tty_open_again(any);
	if (slave >= 0)
		(void)!tty_put(slave, master, &j->data);
}

static int dump_file_of(
	struct dump *d, struct dump_file *f, int kind, const struct dump_pty *p, struct error *e)
{
	St__Tty *m = pb_new(&d->arena, Tty, tty);

	if (!m)
		return no_memory(e);
	if (!p || !p->msg)
		return error_set(e, -ESTALE, ERROR_INTERNAL, "%s belongs to no terminal", f->link);
	m->kind = kind;
	m->index = p->index;
	m->pty = p->msg->id;
	m->path = kind == TTY_SLAVE && p->hung_up ? (char *)p->node : (char *)f->link;
	f->msg->kind_case = ST__FILE__KIND_TTY;
	f->msg->tty = m;
	return 0;
}

static int dump_master(struct dump *d, struct dump_file *f, struct error *e)
{
	int index;

	if (ioctl(f->local, TIOCGPTN, &index) < 0)
		return error_errno(e, -errno, "number of %s", f->link);
	for (size_t i = 0; i < d->n_ptys; i++)
		if (d->ptys[i].master == f->id)
			return dump_file_of(d, f, TTY_MASTER, &d->ptys[i], e);
	return dump_file_of(d, f, TTY_MASTER, NULL, e);
}

static int dump_slave(struct dump *d, struct dump_file *f, struct error *e)
{
	/* TIOCGPTPEER leaves it there, whatever the descriptor says. */
	f->msg->flags |= (unsigned)fcntl(f->local, F_GETFL) & O_CLOEXEC;
	return dump_file_of(d, f, TTY_SLAVE, find(d, f->st.st_dev, minor(f->st.st_rdev)), e);
}

static int dump_controlling(struct dump *d, struct dump_file *f, struct error *e)
{
	return dump_file_of(d, f, TTY_CONTROLLING, controlling(d, f), e);
}

int restore_open_tty(struct restore *r, const St__File *m, int *ret_fd, struct error *e);

extern const struct resource resource_pty_master, resource_pty_slave, resource_tty;
const struct resource resource_pty_master = {
	.kind = "pty master",
	.description = "masters of pseudo terminals: number, output that waits, packet mode, locks",
	.kind_case = ST__FILE__KIND_TTY,
	.match = match_master,
	.dump = dump_master,
	.open = restore_open_tty,
};
const struct resource resource_pty_slave = {
	.kind = "terminal",
	.description = "pseudo terminals of the container's own: settings, size, session, foreground group, "
		       "input that "
		       "waits, hung-up ones",
	.kind_case = ST__FILE__KIND_TTY,
	.match = match_slave,
	.dump = dump_slave,
	.open = restore_open_tty,
};
const struct resource resource_tty = {
	.kind = "/dev/tty",
	.description = "the terminal of a session",
	.kind_case = ST__FILE__KIND_TTY,
	.match = match_controlling,
	.check = check_controlling,
	.dump = dump_controlling,
	.open = restore_open_tty,
};
