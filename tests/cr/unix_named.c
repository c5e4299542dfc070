/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of unix sockets: absolute, relative, on a tmpfs, abstract, given by the kernel, removed, renamed,
 * taken by another since; mode and owner of the file; connections whose listener is gone. cr: tmpfs=/mnt ids=1
 */
#include "sockets.h"

static int server(const char *name)
{
	int fd = un_bound(SOCK_STREAM, name);

	must(listen(fd, 5));
	return fd;
}

static void serves(int listener, const char *name)
{
	int c = un_connected(SOCK_STREAM, name), s;

	must(fcntl(listener, F_SETFL, O_NONBLOCK));
	s = must(accept(listener, NULL, NULL));
	must(fcntl(listener, F_SETFL, 0));
	sk_send(c, "hello");
	sk_expect(s, "hello");
	close(c);
	close(s);
}

static void talks(int a, int b)
{
	sk_send(a, "ping");
	sk_expect(b, "ping");
	sk_send(b, "pong");
	sk_expect(a, "pong");
}

int main(void)
{
	int absolute, relative, mounted, abstract, autobound, lost, lost_client, lost_server, taken, renamed,
		gone_client, gone_server, named_client, named_server;
	struct sockaddr_un name, again;
	socklen_t len = sizeof(name), again_len;
	struct stat st;

	must(mkdir("/tmp/names", 0755));
	must(chdir("/tmp/names"));
	absolute = server("/tmp/names/absolute");
	must(chmod("absolute", 0642));
	must(chown("absolute", 11, 22));
	relative = server("relative");
	mounted = server("/mnt/mounted");
	abstract = server("@abstract");
	autobound = must(socket(AF_UNIX, SOCK_DGRAM, 0));
	must(bind(autobound, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX},
		sizeof(sa_family_t)));
	must(getsockname(autobound, (struct sockaddr *)&name, &len));
	lost = server("lost");
	lost_client = un_connected(SOCK_STREAM, "lost");
	lost_server = must(accept(lost, NULL, NULL));
	must(unlink("lost"));
	taken = server("lost");
	renamed = server("renamed.tmp");
	must(rename("renamed.tmp", "renamed"));
	{
		int gone = server("@gone");

		gone_client = un_connected(SOCK_STREAM, "@gone");
		gone_server = must(accept(gone, NULL, NULL));
		close(gone);
	}
	named_client = un_bound(SOCK_STREAM, "@client");
	must(un_connect(named_client, "absolute"));
	named_server = must(accept(absolute, NULL, NULL));
	must(chdir("/"));
	while (cr_wait()) {
		must(chdir("/tmp/names"));
		un_has_name(absolute, 0, "/tmp/names/absolute");
		must(stat("absolute", &st));
		check(S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0642 && st.st_uid == 11 &&
				st.st_gid == 22,
			"mode %o of %u:%u", st.st_mode, st.st_uid, st.st_gid);
		serves(absolute, "/tmp/names/absolute");
		un_has_name(relative, 0, "relative");
		serves(relative, "relative");
		serves(mounted, "/mnt/mounted");
		serves(abstract, "@abstract");
		again_len = sizeof(again);
		must(getsockname(autobound, (struct sockaddr *)&again, &again_len));
		check(again_len == len && !memcmp(&again, &name, len), "the kernel's name has changed");
		un_has_name(lost, 0, "lost");
		un_has_name(lost_client, 1, "lost");
		talks(lost_client, lost_server);
		serves(taken, "lost");
		un_has_name(renamed, 0, "renamed.tmp");
		serves(renamed, "renamed");
		check(access("renamed.tmp", F_OK) == -1, "the old name is back");
		talks(gone_client, gone_server);
		un_has_name(gone_server, 0, "@gone");
		un_has_name(gone_client, 1, "@gone");
		un_has_name(gone_client, 0, "");
		talks(named_client, named_server);
		un_has_name(named_client, 0, "@client");
		un_has_name(named_server, 1, "@client");
		un_has_name(named_client, 1, "/tmp/names/absolute");
		must(chdir("/"));
	}
	return 0;
}
