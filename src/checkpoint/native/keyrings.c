/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys cannot be kept: a program knows them by their serial numbers, which nobody can choose, and payloads of most types cannot
 * be read. Which keyrings a task has only the task itself can be asked, so this is seen when the tasks are stopped.
 *
 * The session keyring that create makes, and restore again, is named after the container; what counts is whether a program has
 * put keys into it. Where there is none of ours nobody is asked: who has none gets his user's by the question. One that a
 * program has joined, and that is not empty, has another name.
 */
#include "checkpoint/native/keyrings.h"

#include <linux/keyctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define SYSTEMD_KEY "invocation_id"

void keyring_ask(struct batch *b, const struct dump *d, struct keyring_question *q)
{
	uint64_t at = 0, first_at = 0;

	q->thread = batch_call(
		b, OP_MAY_FAIL, SYS_keyctl, KEYCTL_GET_KEYRING_ID, (long)KEY_SPEC_THREAD_KEYRING, 0);
	q->process = batch_call(
		b, OP_MAY_FAIL, SYS_keyctl, KEYCTL_GET_KEYRING_ID, (long)KEY_SPEC_PROCESS_KEYRING, 0);
	if (!d->c->own_keyring)
		return;
	q->name = batch_data(b, KEYRING_NAME, &at);
	q->first = batch_data(b, sizeof(*q->first), &first_at);
	q->contents = batch_call(b, OP_MAY_FAIL, SYS_keyctl, KEYCTL_READ, (long)KEY_SPEC_SESSION_KEYRING,
		first_at, sizeof(*q->first));
	q->of_systemd = batch_call(b, OP_MAY_FAIL, SYS_keyctl, KEYCTL_SEARCH, (long)KEY_SPEC_SESSION_KEYRING,
		batch_bytes(b, "user", sizeof("user")), batch_bytes(b, SYSTEMD_KEY, sizeof(SYSTEMD_KEY)), 0);
	q->described = batch_call(b, OP_MAY_FAIL, SYS_keyctl, KEYCTL_DESCRIBE, (long)KEY_SPEC_SESSION_KEYRING,
		at, KEYRING_NAME - 1);
}

/* "keyring;uid;gid;permissions;name" of what belongs to a user, and has not been given to anybody. */
static bool is_of_user(const struct keyring_question *q)
{
	const char *name = q->described->result > 0 ? strrchr(q->name, ';') : NULL;

	return name && !strncmp(name, ";_uid", 5);
}

/* systemd gives each service its id so, beside the environment variable: nothing but its name is known of it. */
static bool is_of_systemd(const struct keyring_question *q)
{
	return q->contents->result == sizeof(*q->first) && q->of_systemd->result == *q->first;
}

int keyring_check(
	const struct dump *d, const struct dump_proc *p, const struct keyring_question *q, struct error *e)
{
	const char *what = NULL;

	if (!q->thread)
		return 0;
	if (q->thread->result >= 0 || q->process->result >= 0)
		what = "a keyring of its own (keyrings(7))";
	else if (q->contents && q->contents->result > 0 && !is_of_user(q) && !is_of_systemd(q))
		what = "keys in its session keyring";
	return what ? error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			      "cannot checkpoint: process %d: keyring: it has %s, whose serial numbers "
			      "nobody can "
			      "give again: "
			      "revoke or unlink them first",
			      p->ns_pid, what)
		    : 0;
}
